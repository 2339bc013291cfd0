"""Records of a run as far as they can be believed: what is damaged or impossible is left out, with the reason."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from foretune.errors import DataError
from foretune.records.evaluation import EvaluationRecord
from foretune.records.evidence import EvidenceRecord, Score
from foretune.records.reworded import RewordedRecord
from foretune.records.training import TrainingRecord

__all__ = ["believable", "sound_evaluation", "sound_probes", "sound_reworded"]

NAMES_OF_FRACTIONS = ("_fraction", "p_end", "base_p_end", "form", "base_form", "mmd_p_value", "p_value")
SPLIT_PARTS = {"losses", "fits", "templates", "languages"}  # lists whose faulty members are left out one by one


def sound_evaluation(run_dir: Path) -> tuple[EvaluationRecord | None, str]:
    """`evaluation.json`, or None with the reason where it is damaged; (None, "") where there is none."""
    if not EvaluationRecord.exists(run_dir):
        return None, ""
    try:
        record = EvaluationRecord.read(run_dir)
        record.system(record.candidate), record.system(record.baseline)
    except DataError as error:
        return None, f"damaged: {error.what}"
    except StopIteration:
        return None, f"damaged: {EvaluationRecord.file_name} has no system of its own candidate or baseline"
    wrong = next(_impossible(record.delta, "delta"), "")
    return (None, f"damaged: {EvaluationRecord.file_name}: {wrong}") if wrong else (record, "")


def sound_probes(run_dir: Path) -> tuple[EvidenceRecord | None, str]:
    """`evidence.json` without parts that cannot be, or None with the reason where it is damaged."""
    if not EvidenceRecord.exists(run_dir):
        return None, ""
    try:
        return believable(EvidenceRecord.read(run_dir)), ""
    except DataError as error:
        return None, f"damaged: {error.what}"


def sound_reworded(run_dir: Path) -> tuple[RewordedRecord | None, str]:
    """`reworded.json` of the artefact that is there, or None with the reason where it is damaged or of an older one."""
    if not (RewordedRecord.exists(run_dir) and TrainingRecord.exists(run_dir)):
        return None, ""
    try:
        record = RewordedRecord.read(run_dir)
    except DataError as error:
        return None, f"damaged: {error.what}"
    if record.artefact_sha256 != TrainingRecord.read(run_dir).artefact_sha256:
        return None, f"{RewordedRecord.file_name} is of another artefact: foretune diagnose {run_dir.name} --reword"
    wrong = next(_impossible(record, "reworded"), "")
    return (None, f"damaged: {RewordedRecord.file_name}: {wrong}") if wrong else (record, "")


def believable(record: EvidenceRecord) -> EvidenceRecord:
    """The record without parts that hold impossible numbers; `not_measured` says which and why.

    Impossible: not finite, an interval that does not hold its value, a fraction outside 0..1, a negative loss.
    """
    changes: dict[str, Any] = {}
    reasons = dict(record.not_measured)
    for name in type(record).model_fields:
        value = getattr(record, name)
        if name in SPLIT_PARTS:
            kept = tuple(part for part in value if not any(_impossible(part, name)))
            if len(kept) < len(value):
                changes[name] = kept
                reasons[name] = f"{len(value) - len(kept)} of {len(value)} entries of {name} hold impossible numbers"
        elif wrong := next(_impossible(value, name), ""):
            changes[name] = 0 if name == "num_train_samples" else None
            reasons[name] = f"damaged: {wrong}"
    changes.pop("seconds", None)
    return record.model_copy(update={**changes, "not_measured": reasons}) if changes else record


def _impossible(value: Any, name: str) -> Iterator[str]:
    """What cannot be in a value, one sentence each."""
    if isinstance(value, BaseModel):
        if isinstance(value, Score) and not value.ci_low - 1e-9 <= value.value <= value.ci_high + 1e-9:
            yield f"{name}: {value.value:g} lies outside its interval {value.ci_low:g} to {value.ci_high:g}"
        for inner in type(value).model_fields:
            yield from _impossible(getattr(value, inner), inner if inner != "value" else name)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{name} is not a number"
        elif name.endswith(NAMES_OF_FRACTIONS) and not -1e-6 <= value <= 1 + 1e-6:
            yield f"{name} = {value:g} is no fraction"
        elif "nats" in name and value < -1e-6:
            yield f"{name} = {value:g}: a loss is not negative"
    elif isinstance(value, int) and not isinstance(value, bool) and value < 0:
        yield f"{name} = {value} is negative"
