"""The line of runs that led to one: what each round changed against the one before, and what that brought."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from foretune.compare.answers import read_variant
from foretune.compare.offline import compare_variants
from foretune.config.settings import PATH_FIELDS, settings_of
from foretune.data.diff import diff_versions
from foretune.data.store import DatasetStore
from foretune.errors import ForetuneError
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.run import ResolvedRecord, RunState, list_runs, run_state

__all__ = ["Changed", "Gain", "Lineage", "Round", "lineage"]

OF_THE_FILE = ("name", "parent")  # settings that say nothing about the model


class Changed(NamedTuple):
    """A setting by its dotted name, in the parent's job and in this one."""

    name: str
    old: Any
    new: Any


class Gain(NamedTuple):
    """The primary metric minus the parent's, paired on the `n` test samples that both answered, with its interval."""

    metric: str
    difference: float
    ci_low: float
    ci_high: float
    n: int
    verdict: str


class Round(NamedTuple):
    """One run of the line. What compares it with its parent is empty or None for the first.

    `causes` are what `diagnose` found, the likeliest first. `rows` counts samples added, removed, changed and moved
    between the data versions; None where a version is not kept. `gain` is None where the two were not tested on the
    same samples; `not_compared` says why.
    """

    run_id: str
    created: str
    state: RunState
    dataset_version: str
    verdict: str
    metric: str
    score: float | None
    causes: tuple[str, ...]
    settings: tuple[Changed, ...] = ()
    rows: dict[str, int] | None = None
    gain: Gain | None = None
    not_compared: str = ""


class Lineage(NamedTuple):
    """The rounds, oldest first; the first one's parent if it is gone; the runs made from the last."""

    rounds: tuple[Round, ...]
    gone: str
    children: tuple[str, ...]


def lineage(run_dir: Path) -> Lineage:
    """The runs that led to the one in a folder, itself last. Raises NotFound where the folder holds no run."""
    line = [run_dir]
    gone = ""
    while parent := ResolvedRecord.read(line[-1]).parent:
        before = run_dir.parent / parent
        if not ResolvedRecord.exists(before) or before in line:
            gone = parent
            break
        line.append(before)
    line.reverse()
    later = (ResolvedRecord.read(other) for other in list_runs(run_dir.parent))
    return Lineage(
        tuple(_round(each, line[at - 1] if at else None) for at, each in enumerate(line)),
        gone,
        tuple(record.run_id for record in later if record.parent == run_dir.name),
    )


def _round(run_dir: Path, parent: Path | None) -> Round:
    record = ResolvedRecord.read(run_dir)
    evaluation = EvaluationRecord.read(run_dir) if EvaluationRecord.exists(run_dir) else None
    alone = Round(
        run_id=record.run_id,
        created=record.created,
        state=run_state(run_dir),
        dataset_version=_version(run_dir),
        verdict=evaluation.verdict if evaluation else "",
        metric=record.primary_metric,
        score=_score(evaluation) if evaluation else None,
        causes=_causes(run_dir),
    )
    if parent is None:
        return alone
    gain, not_compared = _gain(run_dir, parent)
    return alone._replace(
        settings=_changed(record, ResolvedRecord.read(parent)),
        rows=_rows(run_dir, parent),
        gain=gain,
        not_compared=not_compared,
    )


def _version(run_dir: Path) -> str:
    return DatasetRecord.read(run_dir).version if DatasetRecord.exists(run_dir) else ""


def _causes(run_dir: Path) -> tuple[str, ...]:
    found = DiagnosisRecord.read(run_dir).causes if DiagnosisRecord.exists(run_dir) else ()
    return tuple(cause.mode for cause in found)


def _score(evaluation: EvaluationRecord) -> float | None:
    systems = {system.name: system for system in evaluation.systems}
    metric = systems[evaluation.candidate].metrics.get(evaluation.primary_metric)
    return metric.value if metric else None


def _changed(mine: ResolvedRecord, theirs: ResolvedRecord) -> tuple[Changed, ...]:
    old, new = settings_of(theirs.job), settings_of(mine.job)
    differing = [name for name in new if old[name] != new[name] and name not in OF_THE_FILE]
    return tuple(
        Changed(name, old[name], new[name])
        for name in differing
        if name not in PATH_FIELDS or _place(mine, new[name]) != _place(theirs, old[name])
    )


def _place(record: ResolvedRecord, value: str) -> Path | str:
    """The file that a setting of the run means; what is no file there stands for itself."""
    place = Path(record.folder) / value
    return place.resolve() if value and place.exists() else value


def _rows(run_dir: Path, parent: Path) -> dict[str, int] | None:
    old, new = _version(parent), _version(run_dir)
    if not old or not new:
        return None
    if old == new:
        return {}
    try:
        return diff_versions(DatasetStore(run_dir.parent), old, new).counts
    except ForetuneError:  # a version that is no longer kept, or damaged
        return None


def _gain(run_dir: Path, parent: Path) -> tuple[Gain | None, str]:
    for one in (parent, run_dir):
        if not EvaluationRecord.exists(one):
            return None, f"{one.name} is not evaluated"
    try:
        claims = compare_variants([read_variant(parent), read_variant(run_dir)]).claims
    except ForetuneError as error:
        return None, error.what
    primary = next(claim for claim in claims if claim.is_primary)
    return Gain(primary.metric, primary.value, primary.ci_low, primary.ci_high, primary.n, primary.verdict or ""), ""
