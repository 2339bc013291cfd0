"""A model that judges pairs of answers, in both orders and by a rubric; it never decides."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple

from foretune.data.samples import Sample
from foretune.errors import ServeError
from foretune.evaluate.endpoint import Endpoint, Refused
from foretune.evaluate.rating import calibrated
from foretune.evaluate.systems import Once, Progress, System
from foretune.records.evaluation import Criterion, JudgeResult
from foretune.stats.paired import compare_paired

__all__ = ["JUDGE_FILE", "Judged", "judge_answers"]

JUDGE_FILE = "judge.jsonl"  # sample id and score, for raters' votes to correct

MAX_FAILURES = 3  # in a row: then the judge counts as down
MAX_TOKENS = 400
INSTRUCTIONS = """You compare two answers to the same request. Judge only what they say, not how long they are or \
which one comes first. Mark both from 1 (bad) to 5 (good) on each of: {criteria}. Then say which is better as a whole.
Reply with one JSON object and nothing else, of this form:
{{"A": {marks}, "B": {marks}, "winner": "A" or "B" or "tie"}}"""
AGAIN = """Your answer was not of the form asked for. Reply with the JSON object alone: no words before or after it, \
no code fence, every key as shown, and "winner" exactly one of "A", "B", "tie"."""
OBJECT = re.compile(r"\{.*\}", re.DOTALL)
Winner = Literal["candidate", "baseline", "tie"]


class Judged(NamedTuple):
    """What the judge says as a whole, and its score of every pair of different answers by sample id, -1 to 1."""

    result: JudgeResult
    scores: dict[str, float]


class _Vote(NamedTuple):
    """The judge's word on one order of one pair."""

    winner: Winner
    candidate_marks: dict[str, float]
    baseline_marks: dict[str, float]


class _Judged(NamedTuple):
    """Both orders of one pair, the candidate's answer first and second; equal answers were not asked about."""

    first: _Vote
    second: _Vote
    is_equal: bool = False

    @property
    def winner(self) -> Winner:
        """The winner in both orders, else a tie."""
        return self.first.winner if self.first.winner == self.second.winner else "tie"

    @property
    def score(self) -> float:
        """1 for the candidate, -1 for the baseline, 0 for a tie."""
        return {"candidate": 1.0, "baseline": -1.0, "tie": 0.0}[self.winner]


def judge_answers(
    endpoint: Endpoint,
    samples: Sequence[Sample],
    candidate: System,
    baseline: System,
    *,
    criteria: Sequence[str],
    num_samples: int,
    seed: int,
    human: Mapping[str, float],
    once: Once,
    on_progress: Progress | None = None,
) -> Judged:
    """Let the judge compare candidate and baseline on `num_samples` drawn samples (0 = all).

    A pair that the judge does not answer, or answers with nonsense in one of the orders, is missing, not a tie.
    `human` are votes of people by sample id, -1 to 1, which correct the judge (PPI++) and say how far to trust it.
    """
    places = list(range(len(samples)))
    if num_samples and num_samples < len(places):
        places = sorted(Random(f"judge/{seed}").sample(places, num_samples))
    judged: dict[int, _Judged] = {}
    costs: list[float | None] = []
    gap, in_a_row = "", 0
    for done, place in enumerate(places, start=1):
        if in_a_row < MAX_FAILURES:
            pair = _Pair(samples[place], candidate.predictions[place], baseline.predictions[place], tuple(criteria))
            try:
                found = _judged(endpoint, pair, place, once, costs)
                in_a_row = 0
                gap = gap or ("" if found else "the judge's answer was not of the form that was asked for")
                judged |= {place: found} if found else {}
            except ServeError as error:
                gap, in_a_row = gap or error.what, in_a_row + (not isinstance(error, Refused))
        if on_progress is not None:
            on_progress("judge", done, len(places))
    rows = [judged[place] for place in judged]
    scores = {samples[place].id: row.score for place, row in judged.items() if not row.is_equal}
    known = [cost for cost in costs if cost is not None]
    result = _result(endpoint.model, rows, len(places) - len(rows), criteria, gap)
    cost_usd = sum(known) if known and len(known) == len(costs) else None
    trust = calibrated(scores, human)
    return Judged(
        result.model_copy(
            update={
                "cost_usd": cost_usd,
                "num_labels": trust.num_labels,
                "agreement": trust.kappa,
                "corrected": trust.corrected,
            }
        ),
        scores,
    )


class _Pair(NamedTuple):
    sample: Sample
    candidate: str
    baseline: str
    criteria: tuple[str, ...]


def _judged(endpoint: Endpoint, pair: _Pair, place: int, once: Once, costs: list[float | None]) -> _Judged | None:
    """Both orders of one pair; None where the judge spoke nonsense in one, twice."""
    if pair.candidate.strip() == pair.baseline.strip():
        tie = _Vote("tie", {}, {})
        return _Judged(tie, tie, is_equal=True)
    votes = []
    for is_first in (True, False):
        try:
            kept = partial(_answered, endpoint, pair, is_first, costs)
            text, cost = once(f"{_step(endpoint, pair)}/{place}/{'ab' if is_first else 'ba'}", kept)
        except _Nonsense:
            return None
        costs.append(cost)
        votes.append(_vote(text, is_first, pair.criteria))
    first, second = votes
    return _Judged(first, second) if first is not None and second is not None else None


def _step(endpoint: Endpoint, pair: _Pair) -> str:
    """Begins the names of its votes in the journal: another judge or rubric votes anew."""
    return f"judge:{endpoint.url}#{endpoint.model}/{','.join(pair.criteria)}"


class _Nonsense(Exception):
    """The judge kept to no form, twice: no answer, so that it is not kept and the next evaluation asks again."""


def _answered(endpoint: Endpoint, pair: _Pair, candidate_first: bool, costs: list[float | None]) -> list[Any]:
    """The judge's answer and its cost; what an answer of no use cost goes to `costs`. Raises _Nonsense."""
    nonsense: str | None = None
    for _ in range(2):
        text, cost = _asked(endpoint, pair, candidate_first, nonsense)
        if _vote(text, candidate_first, pair.criteria) is not None:
            return [text, cost]
        nonsense = text
        costs.append(cost)
    raise _Nonsense


def _asked(endpoint: Endpoint, pair: _Pair, candidate_first: bool, nonsense: str | None = None) -> list[Any]:
    """The judge's answer and its cost; after `nonsense` it is told the form once more."""
    shown = (pair.candidate, pair.baseline) if candidate_first else (pair.baseline, pair.candidate)
    marks = "{" + ", ".join(f'"{name}": 1 to 5' for name in pair.criteria) + "}"
    turns = "\n".join(f"{turn.role}: {turn.content}" for turn in pair.sample.prompt)
    target = f"\n\n[reference answer]\n{pair.sample.target}" if pair.sample.target else ""
    asked = f"[request]\n{turns}{target}\n\n[answer A]\n{shown[0]}\n\n[answer B]\n{shown[1]}"
    told = INSTRUCTIONS.format(criteria=", ".join(pair.criteria), marks=marks)
    messages = [{"role": "system", "content": told}, {"role": "user", "content": asked}]
    if nonsense is not None:
        messages += [{"role": "assistant", "content": nonsense[:2000]}, {"role": "user", "content": AGAIN}]
    reply = endpoint.reply(messages, max_tokens=MAX_TOKENS)
    return [reply.text, reply.cost_usd]


def _vote(text: str, candidate_first: bool, criteria: Sequence[str]) -> _Vote | None:
    """The vote in an answer; None where there is none."""
    found = OBJECT.search(text)
    try:
        said = json.loads(found.group()) if found else {}
    except (ValueError, RecursionError):
        return None
    winner = str(said.get("winner", "")).strip().lower() if isinstance(said, dict) else ""
    if winner not in ("a", "b", "tie"):
        return None
    first, second = _marks(said.get("A"), criteria), _marks(said.get("B"), criteria)
    candidate, baseline = (first, second) if candidate_first else (second, first)
    if winner == "tie":
        return _Vote("tie", candidate, baseline)
    return _Vote("candidate" if (winner == "a") == candidate_first else "baseline", candidate, baseline)


def _marks(said: object, criteria: Sequence[str]) -> dict[str, float]:
    """Marks of 1 to 5; whatever else stands there is no mark."""
    values = said if isinstance(said, dict) else {}
    marks = {name: values.get(name) for name in criteria}
    return {name: float(v) for name, v in marks.items() if type(v) in (int, float) and 1 <= v <= 5}  # type: ignore[operator, arg-type]


def _result(model: str, rows: Sequence[_Judged], num_missing: int, criteria: Sequence[str], gap: str) -> JudgeResult:
    winners = [row.winner for row in rows]
    asked = [row for row in rows if not row.is_equal]
    # the candidate stands first in one order and second in the other
    firsts = [
        vote.winner == side for row in asked for vote, side in ((row.first, "candidate"), (row.second, "baseline"))
    ]
    num_decided = sum(vote.winner != "tie" for row in asked for vote in (row.first, row.second))
    preference, low, high = _preference([row.score for row in rows])
    return JudgeResult(
        model=model,
        n=len(rows),
        wins=winners.count("candidate"),
        losses=winners.count("baseline"),
        ties=winners.count("tie"),
        num_missing=num_missing,
        inconsistent=sum(row.first.winner != row.second.winner for row in asked),
        position_share=sum(firsts) / num_decided if num_decided else None,
        preference=preference,
        ci_low=low,
        ci_high=high,
        criteria=tuple(found for name in criteria if (found := _criterion(name, asked)) is not None),
        gap=f"{num_missing} pairs are missing: {gap}" if num_missing else "",
    )


def _preference(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % interval; nothing is known without scores."""
    if not scores:
        return 0.0, -1.0, 1.0
    result = compare_paired([0.0] * len(scores), scores, "graded", score_range=(-1.0, 1.0))
    return result.value, max(-1.0, result.ci_low), min(1.0, result.ci_high)


def _criterion(name: str, rows: Sequence[_Judged]) -> Criterion | None:
    votes = [vote for row in rows for vote in (row.first, row.second)]
    both = [vote for vote in votes if name in vote.candidate_marks and name in vote.baseline_marks]
    if not both:
        return None
    sums = (sum(vote.candidate_marks[name] for vote in both), sum(vote.baseline_marks[name] for vote in both))
    return Criterion(name=name, candidate=sums[0] / len(both), baseline=sums[1] / len(both), n=len(both))
