"""The decision procedure end to end on the bundled model: a skill it has, one it lacks, and labels that say nothing.

`python benchmarks/decision_pebble.py [known lacking noise]` trains where the gates ask for it: minutes on two cores.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretune import api
from foretune.data.world.skills import probe
from foretune.journey import Measure

Rows = list[dict[str, Any]]
ROWS, LABELS = 900, ("K1", "K2", "K3")


def known() -> Rows:
    """Repeating a text, which pebble was trained on: a prompt is enough."""
    return [{"messages": [*s.messages, _said(s.target)]} for s in probe("copy", ROWS, 31)]


def lacking() -> Rows:
    """A code from the first letter of the second word, which no prompt tells: training is needed."""
    rng, words = random.Random(5), _words()
    rows = []
    for _ in range(ROWS):
        first, second = rng.sample(words, 2)
        rows.append(_row(f"{first} {second}", LABELS[ord(second[0]) % 3]))
    return rows


def noise() -> Rows:
    """Labels drawn by lot: nothing can learn them."""
    rng, words = random.Random(6), _words()
    return [_row(" ".join(rng.sample(words, 3)), rng.choice(LABELS)) for _ in range(ROWS)]


CASES: dict[str, tuple[Callable[[], Rows], tuple[Measure, ...], tuple[str, ...]]] = {
    "known": (known, ("baseline", "failures"), ("prompt",)),
    "lacking": (lacking, ("baseline", "failures", "curve"), ("fine-tune",)),
    "noise": (noise, ("baseline", "failures", "curve"), ("prompt", "collect data first")),
}


def measure(names: tuple[str, ...] = tuple(CASES)) -> dict[str, Any]:
    """The action of each case beside the expected ones, with the sentence and the numbers that decided."""
    found = {}
    for name in names:
        rows, measures, expected = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            job = _job(Path(folder), rows())
            record = api.decide(job, measure=measures, runs_dir=Path(folder) / "runs")
        found[name] = {
            "action": record.action,
            "expected": expected,
            "is_right": record.action in expected,
            "sentence": record.sentence,
            "numbers": record.numbers,
        }
    return {"metrics": found}


def _words() -> list[str]:
    return sorted({word for s in probe("copy", 300, 3) for word in s.target.split() if word.isalpha()})


def _row(question: str, answer: str) -> dict[str, Any]:
    asked = [{"role": "system", "content": "give the code"}, {"role": "user", "content": question}]
    return {"messages": [*asked, _said(answer)]}


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _job(folder: Path, rows: Rows) -> Path:
    unique = {json.dumps(row): None for row in rows}
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line in unique), encoding="utf-8")
    job = folder / "job.toml"
    job.write_text(
        'name = "case"\nbase = "pebble"\n[data]\npath = "rows.jsonl"\nvalidation_fraction = 0.2\ntest_fraction = 0.2\n'
        "[train]\nepochs = 4\nlearning_rate = 3e-3\n[evaluate]\nfew_shot = [5]\n",
        encoding="utf-8",
    )
    return job


if __name__ == "__main__":
    print(json.dumps(measure(tuple(sys.argv[1:]) or tuple(CASES)), indent=1))
