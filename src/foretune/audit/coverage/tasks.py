"""What to do about coverage: findings, a collection task for each gap, and whether the data suffice."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from foretune.audit.coverage.record import CoverageRecord, Topic
from foretune.audit.subject import shorten
from foretune.data.samples import Message, Sample
from foretune.records.audit import Finding
from foretune.records.base import write_atomically

__all__ = [
    "Sufficiency",
    "collection_samples",
    "collection_tasks",
    "coverage_findings",
    "sufficiency",
    "write_collection_tasks",
]

GAP, LENGTH, FORMALITY, DRIFT, LANGUAGE = "DATA110", "DATA111", "DATA112", "DATA113", "DATA114"
MAX_EVIDENCE = 5
GOOD_COVERAGE = 0.9  # share of production that lies in topics without a gap


class Sufficiency(NamedTuple):
    """Whether the data are enough: `enough`, `collect` (gaps stay) or `unproven` (no representative test, no score)."""

    verdict: Literal["enough", "collect", "unproven"]
    why: str


def coverage_findings(record: CoverageRecord) -> list[Finding]:
    """The findings of a coverage report, each with what mends it; a gap's effect is the share that training lacks."""
    found = [_gap(topic) for topic in record.gaps]
    length, tone = record.length, record.formality
    if length.mismatch:
        what = f"a median of {length.production_median:g} words against {length.train_median:g} in training"
        fix = f"collect {length.mismatch} inputs, or cut them as production does"
        found.append(_finding(LENGTH, f"production inputs are {length.mismatch}: {what}", record, length.distance, fix))
    if tone.mismatch:
        what = f"formality {tone.production_mean:.2f} against {tone.train_mean:.2f} in training"
        fix = "collect inputs from production, or add casual variants: the step `augment` of a recipe"
        found.append(_finding(FORMALITY, f"production inputs are {tone.mismatch}: {what}", record, tone.distance, fix))
    if record.is_drifting:
        title = f"{record.num_strange} of {record.num_production} production inputs are unlike anything in training"
        effect = record.num_strange / max(record.num_production, 1)
        found.append(_finding(DRIFT, title, record, effect, "read them in coverage.json, then collect or refuse them"))
    return found


def _gap(topic: Topic) -> Finding:
    shares = f"{topic.production_share:.1%} of production, {topic.train_share:.1%} of training"
    named = f"{topic.kind} {topic.name!r}"
    return Finding(
        id=LANGUAGE if topic.kind == "language" else GAP,
        severity="warning",
        title=f"{named} is {topic.status}: {shares}; {topic.needed} examples needed",
        count=topic.num_train,
        evidence=tuple(shorten(text) for text in topic.farthest[:MAX_EVIDENCE]),
        fix=f"collect {topic.needed} examples of {named}: foretune data coverage --tasks FILE writes what to ask for",
        effect=min(1.0, max(0.0, topic.production_share - topic.train_share)),
    )


def _finding(number: str, title: str, record: CoverageRecord, effect: float, fix: str) -> Finding:
    count = record.num_strange if number == DRIFT else record.num_production
    return Finding(id=number, severity="warning", title=title, count=count, fix=fix, effect=min(1.0, effect))


def collection_tasks(record: CoverageRecord) -> list[dict[str, Any]]:
    """One task a gap: how many examples are needed, and production texts that show what is missing."""
    return [
        {
            "slice": topic.name,
            "kind": topic.kind,
            "needed": topic.needed,
            "production_share": round(topic.production_share, 4),
            "train_share": round(topic.train_share, 4),
            "ask": f"Write or collect {topic.needed} examples of {topic.name!r} like these, with their right answers.",
            "typical": list(topic.typical),
            "farthest": list(topic.farthest),
        }
        for topic in record.gaps
    ]


def write_collection_tasks(record: CoverageRecord, path: str | Path) -> Path:
    """Write the tasks as JSONL, one a line."""
    target = Path(path)
    lines = (json.dumps(task, ensure_ascii=False) + "\n" for task in collection_tasks(record))
    write_atomically(target, "".join(lines))
    return target


def collection_samples(topics: Iterable[Topic]) -> list[Sample]:
    """The example texts of gaps as samples that wait for an answer: what annotators are given."""
    texts = {text: topic.name for topic in topics for text in (*topic.farthest, *topic.typical)}
    return [
        Sample(_text_id(text), (Message("user", text),), meta={"slice": name, "source": "production"})
        for text, name in texts.items()
    ]


def _text_id(text: str) -> str:
    return "gap-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def sufficiency(record: CoverageRecord, *, score: float | None, bar: float) -> Sufficiency:
    """Whether more data are needed: a good score counts only on a test set that looks like production.

    `record` compares the *test split* (as `train`) with production; `score` is the metric on it, `bar` what is wanted.
    """
    lacking = {kind: sum(t.production_share for t in record.gaps if t.kind == kind) for kind in ("slice", "cluster")}
    covered = 1.0 - max(lacking.values())
    if covered < GOOD_COVERAGE or record.is_drifting:
        names = ", ".join(repr(topic.name) for topic in record.gaps[:3]) or "inputs unlike any test row"
        return Sufficiency("unproven", f"the test set covers {covered:.0%} of production and lacks {names}")
    if score is None:
        return Sufficiency("unproven", "the test set looks like production, but there is no score on it yet")
    if score < bar:
        return Sufficiency("collect", f"the score {score:.3g} on a representative test set is below {bar:.3g}")
    return Sufficiency("enough", f"the score {score:.3g} reaches {bar:.3g} on a test set that looks like production")
