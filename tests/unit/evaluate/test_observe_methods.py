"""Runs of every method on a tiny model, trained and observed for real: what cannot be measured says why not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foretune import journey
from foretune.config import resolve_job
from foretune.evaluate.case import open_case
from foretune.evaluate.observe import observe
from foretune.evaluate.probes.losses import Losses
from foretune.evaluate.probes.scope import Scope
from foretune.records.evidence import EvidenceRecord
from foretune.records.training import TrainingRecord
from foretune.steps import Run, create_job_run, diagnose_run
from foretune.train.here import train_run
from tiny import tiny_model

COLOURS, THINGS = ("blue", "green", "gold"), ("sky", "sea", "sun")


def row(method: str, number: int, words: str) -> dict[str, object]:
    """A row in the form that the method wants."""
    ask, colour = f"{words}: which colour has the {THINGS[number % 3]}?", COLOURS[number % 3]
    forms: dict[str, dict[str, object]] = {
        "classify": {"text": ask, "label": colour},
        "regress": {"text": ask, "label": str(number / 4)},
        "kto": {"prompt": ask, "completion": f"it is {colour}", "label": number % 2 == 0},
        "dpo": {"prompt": ask, "chosen": f"it is {colour}", "rejected": f"no idea {number}"},
        "pretrain": {"text": f"{ask} it is {colour}. " * 3},
    }
    chat = {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": colour}]}
    return forms.get(method, chat)


def trained(method: str, folder: Path, **settings: object) -> Run:
    """A run of two steps."""
    base = tiny_model(folder / "base", "t5" if method == "seq2seq" else "llama")
    random = np.random.default_rng(0)
    words = [" ".join("".join(random.choice(list("aeioulnrst"), 5)) for _ in range(6)) for _ in range(40)]
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row(method, n, text)) + "\n" for n, text in enumerate(words)), encoding="utf-8"
    )
    job = {
        "base": str(base),
        "data.path": str(folder / "rows.jsonl"),
        "train.method": "lora" if method == "seq2seq" else method,
        "train.rank": 4,
        "train.advanced.num_threads": 1,
        "train.advanced.max_steps": 2,
        "evaluate.max_new_tokens": 4,
        **settings,
    }
    run = Run.open(create_job_run(resolve_job(None, job), runs_dir=folder / "runs"))
    journey.do_stage(run, "collect")
    train_run(run.run_dir)
    return run


def seen(run: Run) -> EvidenceRecord:
    """What observing the run finds."""
    return observe(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, quick=True)


ANSWERS = {"train_score", "validation_score", "chance_score", "shape"}
TOKENS = {"losses", "end", "prompt", "templates", "base_input_nats"}
ALWAYS = {"rows", "tokens_per_character", "uniform_nats", "languages"}
MEASURED = {
    "lora": ALWAYS | ANSWERS | TOKENS,
    "full": ALWAYS | ANSWERS | TOKENS,
    "prompt": ALWAYS | ANSWERS | TOKENS,
    "prefix": ALWAYS | ANSWERS | TOKENS,
    "dpo": ALWAYS | ANSWERS | TOKENS,
    "kto": ALWAYS | ANSWERS | TOKENS,
    "seq2seq": ALWAYS | ANSWERS | {"losses", "end"},
    "classify": ALWAYS | ANSWERS | {"losses"},
    "regress": ALWAYS | {"train_score", "validation_score", "chance_score", "shape"},
    "pretrain": {"tokens_per_character", "uniform_nats", "languages", "losses", "base_input_nats"},
}


@pytest.mark.parametrize("method", MEASURED)
def test_every_method_is_observed_as_far_as_it_goes(method: str, tmp_path: Path) -> None:
    """The parts measured are those that the method can have; each other part has its reason."""
    record = seen(trained(method, tmp_path))
    values = {name: getattr(record, name) for name in EvidenceRecord.model_fields}
    measured = {name for name, value in values.items() if value not in (None, ())}
    assert MEASURED[method] <= measured, record.not_measured
    empty = {name for name, value in values.items() if value in (None, ())}
    assert empty <= set(record.not_measured) | {"base_validation_score", "overlap", "shift"}
    assert not any("Error" in reason for reason in record.not_measured.values()), record.not_measured


def test_diagnosing_probes_once_and_again_when_the_run_is_newer(tmp_path: Path) -> None:
    """`diagnose` measures evidence that is missing, keeps what is there, and measures anew after an evaluation."""
    run = trained("lora", tmp_path)
    diagnose_run(run, probe=False)
    path = run.run_dir / "evidence.json"
    assert not path.exists()
    diagnose_run(run, quick=True)
    first = path.stat().st_mtime_ns
    diagnose_run(run, quick=True)
    assert path.stat().st_mtime_ns == first
    (run.run_dir / "evaluation.json").unlink(missing_ok=True)
    journey.do_stage(run, "evaluate")
    diagnose_run(run, quick=True)
    assert path.stat().st_mtime_ns > first
    assert EvidenceRecord.read(run.run_dir).overlap is not None


def test_a_run_that_cannot_be_probed_is_still_diagnosed(tmp_path: Path) -> None:
    """A model that is gone costs the probes, not the diagnosis; whoever watches hears why."""
    run = trained("lora", tmp_path)
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    heard: list[str] = []
    run.watcher.note = heard.append  # type: ignore[method-assign]
    record = diagnose_run(run)
    assert record.run_id == run.run_dir.name
    assert not EvidenceRecord.exists(run.run_dir)
    assert any("not probed" in message for message in heard)


def test_the_losses_are_those_of_training(tmp_path: Path) -> None:
    """Over all learned tokens of validation, ends included, the loss is the one that training measured."""
    run = trained("lora", tmp_path)
    case = open_case(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder, on_progress=None)
    read = Losses(Scope(case)).tuned["validation"]
    nats = sum(float(one.target.sum()) - np.log(one.p_end) for one in read if one.p_end is not None)
    count = sum(len(one.target) + 1 for one in read)
    assert nats / count == pytest.approx(TrainingRecord.read(run.run_dir).best_eval_loss, rel=1e-3)
