"""The scored answers of one system of a run, by sample, for comparison with another run on the same samples."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.settings import settings_of
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.evaluation import ANSWERS_FILE, EvaluationRecord
from foretune.records.run import ResolvedRecord

__all__ = ["Scored", "Variant", "read_variant", "variants_of"]


class Scored(NamedTuple):
    """One sample: what was asked and expected, and the mean score of its answers by metric; `group` "" if none."""

    prompt: str
    expected: str
    group: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Variant:
    """One system of one run. `name` tells it from the others; `settings` are the job's, by dotted name."""

    name: str
    run_id: str
    system: str
    evaluation: EvaluationRecord
    answers: dict[str, Scored]
    settings: dict[str, Any]


def variants_of(runs: Sequence[str | Path]) -> tuple[Variant, ...]:
    """The variants that the runs name, the baseline first: `FOLDER` is the run's candidate, `FOLDER:system` a system.

    One run alone means its baseline against its candidate.
    """
    named = [_split(run) for run in runs]
    if not named:
        raise ConfigError("no run given, expected two or more (the baseline first)", fix="foretune compare RUN RUN")
    if len(named) == 1:
        folder, system = named[0]
        evaluation = EvaluationRecord.read(folder)
        named = [(folder, evaluation.baseline), (folder, system or evaluation.candidate)]
    if len(set(named)) < len(named):
        raise ConfigError("the same run and system is given twice", fix="foretune compare RUN RUN:base_few_shot")
    found = [read_variant(folder, system) for folder, system in named]
    several = {variant.system for variant in found}
    runs_named = {variant.run_id for variant in found}
    return tuple(_renamed(variant, len(several) > 1, len(runs_named) > 1) for variant in found)


def read_variant(folder: Path, system: str = "") -> Variant:
    """Read one system of a run. Raises NotFound for a system not asked, DataError for damaged answers."""
    evaluation = EvaluationRecord.read(folder)
    system = system or evaluation.candidate
    answers = _scored(folder / ANSWERS_FILE, system)
    if not answers:
        asked = ", ".join(result.name for result in evaluation.systems)
        raise NotFound(f"{folder} has no answers of system {system!r}, expected one of {asked}", fix=f"{folder}:SYSTEM")
    settings = settings_of(ResolvedRecord.read(folder).job) if ResolvedRecord.exists(folder) else {}
    settings.pop("parent", None)  # tells where the job came from, not what it does
    return Variant(evaluation.run_id, evaluation.run_id, system, evaluation, answers, settings)


def _split(run: str | Path) -> tuple[Path, str]:
    text = str(run)
    if Path(text).exists() or ":" not in text:
        return Path(text), ""
    folder, system = text.rsplit(":", 1)
    return Path(folder), system


def _renamed(variant: Variant, several_systems: bool, several_runs: bool) -> Variant:
    parts = [variant.run_id] if several_runs or not several_systems else []
    name = ":".join([*parts, variant.system] if several_systems else parts)
    return Variant(name, variant.run_id, variant.system, variant.evaluation, variant.answers, variant.settings)


def _scored(path: Path, system: str) -> dict[str, Scored]:
    first: dict[str, Mapping[str, Any]] = {}
    scores: dict[str, list[dict[str, float]]] = {}
    for line, row in _lines(path):
        if row.get("system") != system:
            continue
        sample = str(row.get("sample_id", ""))
        first.setdefault(sample, row)
        scores.setdefault(sample, []).append(_finite(row.get("scores"), path, line))
    return {
        sample: Scored(
            _prompt(row), str(row.get("expected", "")), str(row.get("group", "") or ""), _mean(scores[sample])
        )
        for sample, row in first.items()
    }


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not path.is_file():
        raise NotFound(f"no {path.name} in {path.parent}", fix=f"foretune evaluate {path.parent.name}")
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            try:
                row = json.loads(text)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{line}: not a JSON object", fix=f"foretune evaluate {path.parent.name}")
            yield line, row


def _finite(scores: Any, path: Path, line: int) -> dict[str, float]:
    """The scores of one answer; a missing one (null) is left out, so that the sample counts as missing there."""
    if not isinstance(scores, Mapping):
        raise DataError(f"{path}:{line}: no scores, got {scores!r}", fix=f"foretune evaluate {path.parent.name}")
    return {str(name): float(score) for name, score in scores.items() if score is not None and math.isfinite(score)}


def _mean(repeats: list[dict[str, float]]) -> dict[str, float]:
    """Repeated answers to one sample are one observation: their mean, where all of them have the metric."""
    names = [name for name in repeats[0] if all(name in scores for scores in repeats)]
    return {name: sum(scores[name] for scores in repeats) / len(repeats) for name in names}


def _prompt(row: Mapping[str, Any]) -> str:
    turns = [str(message.get("content", "")) for message in row.get("messages", ()) if message.get("role") == "user"]
    return "\n".join(turns)
