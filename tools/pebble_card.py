"""Measure pebble and write its model card; `--install RUN` first takes the weights of a pretraining run.

python tools/pebble_card.py --install runs/pretrain-pebble-001
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import foretune
from foretune.data.samples import Message
from foretune.data.world.skills import SKILLS, UNTOLD_SKILLS, general_text, probe
from foretune.engine.engine import Engine, load_engine
from foretune.records.training import TrainingRecord
from foretune.stats.intervals import wilson
from foretune.units import show_bytes, show_count, show_seconds

PEBBLE = Path(foretune.__file__).parent / "models" / "pebble"
MEASURED = PEBBLE / "measured.json"
NUM_SAMPLES, NUM_SHOTS, NUM_TEXTS, SEED = 200, 5, 300, 7

WHAT = {
    "copy": "repeat a text",
    "rewrite": "upper case, replace or drop a word",
    "order": "sort or reverse words",
    "pick": "first, last or n-th word",
    "arithmetic": "add, subtract, compare, count",
    "lookup": "answer from a table or story in the prompt",
    "json": "extract fields as JSON with the keys asked for",
    "classify": "put a text into one of the classes named",
    "summarise": "one sentence about a text",
    "second_language": "Spanish words, phrases and answers",
    "induction": "a random mapping shown only by examples",
    "few_shot": "a known task shown only by examples",
}


def accuracy(engine: Engine, skill: str, num_shots: int) -> list[int]:
    """Right and asked: exact match of greedy answers on held-out samples."""
    samples = probe(skill, NUM_SAMPLES, SEED, num_shots)
    tokenizer = engine.tokenizer
    prompts = [
        tokenizer.encode(
            tokenizer.render([Message(m["role"], m["content"]) for m in s.messages], add_generation_prompt=True)
        )
        for s in samples
    ]
    answers = engine.generate(prompts, max_new_tokens=64)
    right = sum(tokenizer.decode(ids).strip() == s.target.strip() for ids, s in zip(answers, samples, strict=True))
    return [right, len(samples)]


def measure(folder: Path) -> dict[str, object]:
    """Every figure of the card."""
    engine = load_engine(folder)
    skills = {
        skill: {
            "zero_shot": None if skill in UNTOLD_SKILLS else accuracy(engine, skill, 0),
            "few_shot": accuracy(engine, skill, NUM_SHOTS),
        }
        for skill in SKILLS
    }
    loss = engine.text_loss(general_text(NUM_TEXTS, SEED))
    weights = folder / "model.safetensors"
    return {
        "bits_per_byte": round(loss.bits_per_byte, 4),
        "num_bytes": loss.num_bytes,
        "skills": skills,
        "weights_bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def share(pair: list[int] | None) -> str:
    """`84 % (78-88)`."""
    if pair is None:
        return "-"
    found = wilson(*pair)
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})".replace("%", " %")


def card(measured: dict[str, object], training: dict[str, object]) -> str:
    """The card as Markdown."""
    skills: dict[str, dict[str, list[int] | None]] = measured["skills"]  # type: ignore[assignment]
    rows = "\n".join(
        f"| {skill} | {WHAT[skill]} | {share(found['zero_shot'])} | {share(found['few_shot'])} |"
        for skill, found in skills.items()
    )
    return f"""---
license: apache-2.0
language: [en, es]
library_name: transformers
pipeline_tag: text-generation
---

# pebble

A language model of {show_count(training["total_parameters"])} parameters (Llama architecture: 7 layers, width 192,
context 512, 2,048 tokens of byte-level BPE) that ships inside foretune, so that the whole journey runs without a model
hub and without a GPU. It knows a small procedural world and nothing else: support tickets, short stories, tables,
JSON, arithmetic, copying and rewriting, some Spanish. It is there to be fine-tuned, prompted, made to forget and
measured; it is of no use as an assistant.

## Measured abilities

Exact match of greedy answers on {NUM_SAMPLES} held-out samples a skill (probe seed {SEED}, seeds that the corpus never
uses; the shortest questions recur there by chance, 5 to 14 % of those of copy, rewrite, arithmetic, classify and
second_language in 100,000 documents), with 95 % Wilson intervals; few-shot is {NUM_SHOTS} solved turns before the
question. `induction` and `few_shot` come without instruction, so they have no zero-shot column. Held-out text:
{measured["bits_per_byte"]} bits per byte.

| skill | what | zero-shot | few-shot |
|---|---|---|---|
{rows}

## How it was made

`foretune train recipes/pretrain-pebble.toml`: {training["num_steps"]:,} steps, {show_count(training["num_tokens"])}
tokens ({show_count(training["num_loss_tokens"])} of them at full weight) of the corpus in
`src/foretune/data/world/`, generated with a fixed seed; {show_seconds(training["seconds"])} on {training["device"]},
{training["precision"]} arithmetic, seed {training["seed"]}, on a machine busy with other work. The
tokenizer is `train_tokenizer(seed=0)` of the same
package. Weights: {show_bytes(measured["weights_bytes"])} in bf16, SHA-256 `{measured["sha256"]}`.

## Limits

Trained on generated text alone: no facts about the real world, no personal data, a vocabulary of some thousand words.
Licence: Apache-2.0, weights, tokenizer and corpus alike.
"""


def main() -> None:
    """Install, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install", type=Path, help="a finished run of recipes/pretrain-pebble.toml")
    args = parser.parse_args()
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    training = known.get("training")
    if args.install:
        shutil.copyfile(args.install / "model" / "model.safetensors", PEBBLE / "model.safetensors")
        record = TrainingRecord.read(args.install).as_dict()
        names = "num_steps num_tokens num_loss_tokens seconds device precision seed total_parameters best_eval_loss"
        training = {name: record[name] for name in names.split()}
    measured = measure(PEBBLE)
    MEASURED.write_text(json.dumps({"training": training, "measured": measured}, indent=2) + "\n", encoding="utf-8")
    (PEBBLE / "README.md").write_text(card(measured, training), encoding="utf-8")
    print((PEBBLE / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
