"""A run's files and job, and the bases: pebble, smaller ones pretrained with other seeds, and damaged copies."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from diagnose_suite.cases import Case
from diagnose_suite.halves import TASKS
from diagnose_suite.kinds import BaseFault, Planted
from diagnose_suite.tasks import Pair
from foretune import api
from foretune.config.read import ResolvedJob, resolve_job
from foretune.data.languages import language_of
from foretune.data.world.corpus import documents
from foretune.data.world.document import Document
from foretune.models.base import resolve_base

__all__ = ["SHAPES", "base_folder", "general_file", "pretrain_base", "resolved_job"]

# Of each further base what differs from pebble's shape, and the seed of its corpus and weights.
SHAPES: dict[str, tuple[int, dict[str, Any]]] = {
    "pebblet": (
        20,
        {
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "intermediate_size": 344,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
    "pebbleq": (
        31,
        {
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_size": 160,
            "num_hidden_layers": 3,
            "intermediate_size": 432,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
        },
    ),
    "pebblen": (
        43,
        {
            "model_type": "qwen3",
            "architectures": ["Qwen3ForCausalLM"],
            "hidden_size": 144,
            "num_hidden_layers": 5,
            "intermediate_size": 320,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 24,
        },
    ),
}
BASE_JOB = {
    "base": "shape",
    "data.path": "world",
    "data.task": "text",
    "data.max_rows": 130_000,
    "train.method": "pretrain",
    "train.epochs": 1.0,
    "train.learning_rate": 4e-3,
    "train.global_batch_size": 64,
    "train.max_seq_len": 512,
    "train.advanced.init": "random",
    "train.advanced.weight_decay": 0.1,
    "train.advanced.precision": "fp32",
    "train.advanced.micro_batch_size": 2,
    "train.advanced.eval_every": 300,
    "train.advanced.patience": 0,
    "train.advanced.num_threads": 1,
}
GENERAL_SEED = 77


class _General(NamedTuple):
    """How many general rows, each of fewer characters, and the greatest shares with and without Spanish."""

    rows: int
    characters: int
    spanish: float
    english: float


GENERAL = {
    "mixed": _General(600, 200, 1.0, 1.0),  # as they come
    "english": _General(600, 200, 0.0, 1.0),
    "even": _General(600, 200, 0.25, 0.75),
    "wide_english": _General(3000, 500, 0.0, 1.0),
    "wide_even": _General(3000, 500, 0.25, 0.75),
}


def base_folder(bases: Path, name: str) -> Path:
    """Where a base lies: pebble in the package, the others where `pretrain_base` put them."""
    return resolve_base("pebble") if name == "pebble" else bases / name


def pretrain_base(bases: Path, name: str) -> Path:
    """A base of 1 M parameters, from scratch on the same generator's corpus with other seeds; about 20 CPU minutes."""
    target = bases / name
    if target.is_dir():
        return target
    seed, differs = SHAPES[name]
    pebble = resolve_base("pebble")
    shape = bases / f"work-{name}" / "shape"
    shape.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(pebble / file, shape / file)
    config = json.loads((pebble / "config.json").read_text(encoding="utf-8")) | differs
    (shape / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    given = replace(resolve_job(None, {**BASE_JOB, "name": name, "seed": seed}, {}), folder=shape.parent)
    done = api.train(given, runs_dir=shape.parent / "runs", foreground=True)
    take_base(next(done.run_dir.glob("*/model.safetensors")).parent, target)
    return target


def take_base(artefact: Path, target: Path) -> None:
    """Copy a trained whole model to where bases lie, under the template files that every base has."""
    shutil.copytree(artefact, target, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(resolve_base("pebble") / name, target / name)
    (target / "chat_template.jinja").unlink(missing_ok=True)


def damaged_base(source: Path, target: Path, fault: BaseFault, seed: int) -> Path:
    """A copy of a base: without its chat template, or with weights that were never trained."""
    shutil.copytree(source, target)
    config_file = target / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if fault == "plain_template":
        config.pop("chat_template")
        config_file.write_text(json.dumps(config), encoding="utf-8")
    if fault == "random_weights":
        from foretune.models.load import load_model

        load_model(source, random_init=True, seed=seed).model.save_pretrained(target)
    return target


def general_file(bases: Path, kind: str) -> Path:
    """General conversations to mix in, one of `GENERAL`, from seeds of the corpus that no base was trained on."""
    name = "general" if kind == "mixed" else kind
    path = bases / name / f"{name}.jsonl"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_rows(path, _general_rows(kind))
    card = {"kind": "file", "name": "general rows of the suite", "licence": "Apache-2.0", "share": "public"}
    path.with_name("source.json").write_text(json.dumps(card), encoding="utf-8")
    return path


def _general_rows(kind: str) -> list[dict[str, Any]]:
    wanted = GENERAL[kind]
    room = {True: wanted.rows * wanted.spanish, False: wanted.rows * wanted.english}  # by whether there is Spanish
    rows: list[dict[str, Any]] = []
    for start in count(0, 1000):
        for one in documents(GENERAL_SEED, 1000, start):
            if not one.messages or sum(len(message["content"]) for message in one.messages) >= wanted.characters:
                continue
            is_spanish = _has_spanish(one)
            if room[is_spanish] > 0:
                room[is_spanish] -= 1
                rows.append({"messages": list(one.messages)})
            if len(rows) == wanted.rows:
                return rows
    raise AssertionError("the corpus never ends")


def _has_spanish(document: Document) -> bool:
    return document.skill == "second_language" or any(
        "spanish" in message["content"] or language_of(message["content"]) == "es"
        for message in document.messages or ()
    )


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _chats(pairs: Iterable[Pair], system: str) -> Iterable[dict[str, Any]]:
    for pair in pairs:
        said = (("system", system), ("user", pair.question), ("assistant", pair.answer))
        yield {"messages": [{"role": role, "content": content} for role, content in said]}


def resolved_job(case: Case, run: Planted, *, folder: Path, base: Path, general: Path) -> ResolvedJob:
    """Write the data of a run below `folder` and resolve its job as `foretune run` would."""
    folder.mkdir(parents=True, exist_ok=True)
    system = TASKS[case.task].system
    splits = {"train": run.train, "validation": run.validation, "test": run.test, "production": run.production}
    for name, pairs in splits.items():
        if pairs:
            _write_rows(folder / f"{name}.jsonl", _chats(pairs, system))
    own = dict(run.settings)
    if own.get("data.advanced.mix_fraction"):
        own["data.mix_path"] = str(general)
    else:
        own.pop("data.advanced.mix_fraction", None)
    settings = {
        "name": case.name,
        "base": "pebble" if base == resolve_base("pebble") else str(base),
        "seed": case.seed,
        "data.path": "train.jsonl",
        "data.validation_path": "validation.jsonl",
        "data.test_path": "test.jsonl",
        "data.production_path": "production.jsonl" if run.production else "",
        "train.advanced.num_threads": 1,
        "train.advanced.precision": "fp32",
        "train.advanced.keep_checkpoints": 1,
        "evaluate.few_shot": [2],
        "evaluate.advanced.batch_size": 64,
        "evaluate.advanced.max_validation_samples": 30,
        "evaluate.advanced.probe_samples": 12,
        **own,
    }
    return replace(resolve_job(None, settings, {}), folder=folder)
