"""Blind rating by people: which pairs to show, on which sides, and what the votes say together."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretune.errors import NotFound
from foretune.records.evaluation import ANSWERS_FILE, EvaluationRecord, MetricValue
from foretune.records.ratings import CriterionMarks, Rating, RatingsRecord, Side, read_ratings
from foretune.stats.agreement import Votes, agreement, cohen_kappa
from foretune.stats.intervals import t_mean
from foretune.stats.paired import compare_paired
from foretune.stats.ppi import judged_mean
from foretune.stats.verdict import verdict

__all__ = [
    "Pair",
    "Queue",
    "Trust",
    "calibrated",
    "first_side",
    "human_preferences",
    "is_candidate_first",
    "open_queue",
    "rating_item",
    "summarise",
    "waiting",
]

SCORES = {"candidate": 1.0, "baseline": -1.0, "tie": 0.0}
FEWEST_LABELS = 3  # under these a judge is not held against people
FEWEST_PAIRS = 6  # under these no interval is worth showing
FEWEST_SHARED = 6  # pairs of two raters, under which nothing is said of their agreement
STYLE, SUBSTANCE = "tone", ("facts", "helpfulness")
FEWEST_STYLE = 10  # ratings from which style and substance are compared
UNEVEN = 1.5  # times as much scatter in substance as in style


class Pair(NamedTuple):
    """Two answers to one input. Whoever rates sees neither `sample_id` nor which is which."""

    sample_id: str
    question: str
    candidate: str
    baseline: str


class Queue(NamedTuple):
    """The pairs of a run that differ, in an order that says nothing, and how many are equal."""

    run_id: str
    candidate: str
    baseline: str
    margin: float
    pairs: tuple[Pair, ...]
    num_identical: int


def open_queue(run_dir: Path) -> Queue:
    """The answers of candidate and baseline of an evaluated run, side by side. Raises NotFound."""
    record = EvaluationRecord.read(run_dir)
    path = run_dir / ANSWERS_FILE
    if not path.is_file():
        raise NotFound(f"no {ANSWERS_FILE} in {run_dir}", fix=f"foretune evaluate {run_dir.name}")
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").split("\n"):
        row = json.loads(line) if line else {}
        if row.get("system") in (record.candidate, record.baseline):
            found[str(row["sample_id"])][str(row["system"])] = row
    both = [
        _pair(name, rows[record.candidate], rows[record.baseline]) for name, rows in found.items() if len(rows) == 2
    ]
    pairs = [pair for pair in both if pair.candidate.strip() != pair.baseline.strip()]
    pairs.sort(key=lambda pair: _hash(run_dir.name, "order", pair.sample_id))
    return Queue(run_dir.name, record.candidate, record.baseline, record.margin, tuple(pairs), len(both) - len(pairs))


def _pair(name: str, candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> Pair:
    turns = [turn for turn in candidate["messages"] if turn["role"] != "system"]
    said = [turn["content"] if len(turns) == 1 else f"{turn['role']}: {turn['content']}" for turn in turns]
    return Pair(name, "\n".join(said), str(candidate["prediction"]), str(baseline["prediction"]))


def rating_item(run_id: str, sample_id: str, rater: str) -> str:
    """What a pair is called towards a rater: 12 hex digits that say nothing of the run or the sample.

    Another rater's name, whose A and B stand the other way round for half of the pairs, makes it no pair at all.
    """
    return _hash(run_id, "item", sample_id, rater)[:12]


def is_candidate_first(run_id: str, sample_id: str, rater: str) -> bool:
    """Whether this rater is shown the candidate's answer as A: by a hash, so that it stays and follows no order."""
    return int(_hash(run_id, "side", sample_id, rater)[:8], 16) % 2 == 0


def first_side(run_id: str, sample_id: str, rater: str) -> Side:
    """Whose answer this rater is shown as A."""
    return "candidate" if is_candidate_first(run_id, sample_id, rater) else "baseline"


def waiting(queue: Queue, ratings: Sequence[Rating], rater: str) -> list[Pair]:
    """Pairs that this rater has not rated, those with the fewest votes first."""
    votes: dict[str, set[str]] = defaultdict(set)
    for rating in ratings:
        votes[rating.sample_id].add(rating.rater)
    left = [pair for pair in queue.pairs if rater not in votes[pair.sample_id]]
    return sorted(left, key=lambda pair: len(votes[pair.sample_id]))


def human_preferences(run_dir: Path) -> dict[str, float]:
    """The mean vote on each rated pair, -1 to 1, 1 where everybody preferred the candidate's answer."""
    return _preferences(read_ratings(run_dir))


class Trust(NamedTuple):
    """How a judge's scores and people's votes on the same pairs go together; None where there is too little."""

    num_labels: int
    kappa: float | None = None
    corrected: MetricValue | None = None


def calibrated(scores: Mapping[str, float], human: Mapping[str, float]) -> Trust:
    """Cohen's kappa of judge and people, and the mean preference by both together (PPI++), over pairs that differ."""
    labels = {name: value for name, value in human.items() if name in scores}
    rest = [score for name, score in scores.items() if name not in labels]
    if len(labels) < FEWEST_LABELS:
        return Trust(len(labels))
    own = [scores[name] for name in labels]
    kappa = cohen_kappa([_sign(value) for value in labels.values()], [_sign(value) for value in own])
    if not rest:
        return Trust(len(labels), kappa)
    mean = judged_mean(list(labels.values()), own, rest)
    method = f"PPI++ with {mean.num_labels} votes, weight {mean.weight:.2f}"
    method += "" if mean.calibrated else "; fewer than 100 votes: a sketch"
    value = MetricValue(value=mean.value, ci_low=mean.ci_low, ci_high=mean.ci_high, n=len(scores), method=method)
    return Trust(len(labels), kappa, value)


def _sign(value: float) -> str:
    return "candidate" if value > 0 else "baseline" if value < 0 else "tie"


def summarise(queue: Queue, ratings: Sequence[Rating], judged: Mapping[str, float] | None = None) -> RatingsRecord:
    """What the votes on this queue's pairs say, with an interval over pairs; raters of one pair are averaged.

    `judged` are a judge's scores by sample id, which the votes calibrate.
    """
    known = {pair.sample_id for pair in queue.pairs}
    own = [rating for rating in ratings if rating.sample_id in known]
    scores = list(_preferences(own).values())
    counts = [sum(rating.winner == value for rating in own) for value in ("candidate", "baseline", "tie")]
    trust = calibrated(judged or {}, _preferences(own))
    base = _unrated(queue, own, counts).model_copy(
        update={"judge_agreement": trust.kappa, "judge_corrected": trust.corrected}
    )
    if len(scores) < FEWEST_PAIRS:
        return base
    result = compare_paired([0.0] * len(scores), scores, "graded", margin=queue.margin, score_range=(-1.0, 1.0))
    said = verdict(result, queue.margin)
    return base.model_copy(
        update={
            "preference": result.value,
            "ci_low": max(-1.0, result.ci_low),
            "ci_high": min(1.0, result.ci_high),
            "p_value": result.p_value,
            "verdict": said.value,
            "votes_needed": _votes_needed(said.value, said.n_needed, len(scores)),
            **_agreed(own),
        }
    )


def _votes_needed(value: str, n_needed: int | None, num_rated: int) -> int | None:
    if value != "inconclusive":
        return 0
    return None if n_needed is None else max(1, n_needed - num_rated)


def _unrated(queue: Queue, own: Sequence[Rating], counts: Sequence[int]) -> RatingsRecord:
    """Everything but the statistics."""
    preferences = _preferences(own)
    decided = [rating.winner == rating.shown_first for rating in own if rating.winner != "tie"]
    return RatingsRecord(
        run_id=queue.run_id,
        candidate=queue.candidate,
        baseline=queue.baseline,
        num_pairs=len(queue.pairs),
        num_identical=queue.num_identical,
        num_rated=len(preferences),
        num_votes=len(own),
        raters=tuple(sorted({rating.rater for rating in own})),
        wins=counts[0],
        losses=counts[1],
        ties=counts[2],
        preference=float(np.mean(list(preferences.values()))) if preferences else 0.0,
        ci_low=-1.0,
        ci_high=1.0,
        p_value=1.0,
        verdict="inconclusive",
        votes_needed=FEWEST_PAIRS - len(preferences) if len(preferences) < FEWEST_PAIRS else None,
        position_share=sum(decided) / len(decided) if decided else None,
        criteria=_criteria(own),
        notes=_notes(own),
    )


def _preferences(ratings: Sequence[Rating]) -> dict[str, float]:
    votes: dict[str, list[float]] = defaultdict(list)
    for rating in ratings:
        votes[rating.sample_id].append(SCORES[rating.winner])
    return {name: sum(values) / len(values) for name, values in votes.items()}


def _agreed(ratings: Sequence[Rating]) -> dict[str, Any]:
    votes: dict[str, dict[str, str]] = defaultdict(dict)
    for rating in ratings:
        votes[rating.sample_id][rating.rater] = rating.winner
    num_shared = sum(len(given) > 1 for given in votes.values())
    if not num_shared:
        return {"agreement_said": "nobody's votes can be compared: no pair has two raters"}
    if num_shared < FEWEST_SHARED:
        return {"agreement_said": f"{num_shared} pairs have two raters, too few to say how far they agree"}
    shared: Votes = {name: dict(given) for name, given in votes.items()}
    found = agreement(shared)
    return {"agreement": found.alpha, "agreement_said": f"{found.verdict}; {num_shared} pairs have two raters"}


def _criteria(ratings: Sequence[Rating]) -> tuple[CriterionMarks, ...]:
    names = dict.fromkeys(name for rating in ratings for name in rating.candidate_marks)
    found = []
    for name in names:
        both = [r for r in ratings if name in r.candidate_marks and name in r.baseline_marks]
        if not both:
            continue
        candidate = np.array([rating.candidate_marks[name] for rating in both], dtype=np.float64)
        baseline = np.array([rating.baseline_marks[name] for rating in both], dtype=np.float64)
        found.append(
            CriterionMarks(
                name=name,
                candidate=float(candidate.mean()),
                baseline=float(baseline.mean()),
                candidate_deviation=float(candidate.std()),
                baseline_deviation=float(baseline.std()),
                n=len(both),
            )
        )
    return tuple(found)


def _notes(ratings: Sequence[Rating]) -> tuple[str, ...]:
    """Style without substance: tone that is marked above facts or helpfulness, which scatter far more."""
    notes = []
    for name in SUBSTANCE:
        both = [r.candidate_marks for r in ratings if STYLE in r.candidate_marks and name in r.candidate_marks]
        if len(both) < FEWEST_STYLE:
            continue
        style, substance = (np.array([marks[key] for marks in both], dtype=np.float64) for key in (STYLE, name))
        gap = t_mean(style - substance, score_range=(-4.0, 4.0))
        if gap.low > 0 and substance.std() > UNEVEN * style.std():
            notes.append(
                f"consistent style, inconsistent quality: tone {style.mean():.1f} (spread {style.std():.1f}), "
                f"{name} {substance.mean():.1f} (spread {substance.std():.1f})"
            )
    return tuple(notes)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
