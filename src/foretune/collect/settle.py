"""From many answers to one: gold items tell who to trust, agreement what to keep, an adjudicator the rest."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from foretune.collect.answers import Answer, Answers
from foretune.collect.comparisons import Comparison, Outcome
from foretune.collect.tasks import Task
from foretune.data.provenance import with_provenance
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError
from foretune.records.dataset import UNKNOWN_LICENCE, Provenance
from foretune.stats.intervals import wilson

__all__ = [
    "Dispute",
    "GoldScore",
    "Settled",
    "adjudicated",
    "adjudication_tasks",
    "annotated_samples",
    "comparisons_of",
    "gold_scores",
    "preference_samples",
    "settle",
    "tone_counts",
]

MIN_SHARE = 2 / 3


class GoldScore(NamedTuple):
    """How many gold items an annotator got right, and the lower end of the 95 % interval of that share."""

    num_gold: int
    num_right: int
    low: float


class Dispute(NamedTuple):
    """A task whose answers do not settle it; `votes` by annotator."""

    task_id: str
    votes: dict[str, str]


class Settled(NamedTuple):
    """One value for each task that was settled, the share of votes behind it, and what is still disputed."""

    values: dict[str, str]
    shares: dict[str, float]
    disputes: tuple[Dispute, ...]
    num_too_few: int


def gold_scores(answers: Answers, tasks: Sequence[Task]) -> dict[str, GoldScore]:
    """How each annotator did on the tasks whose answer is known."""
    gold = {task.id: task.gold for task in tasks if task.gold}
    right: dict[str, list[bool]] = {}
    for answer in answers.answers:
        if answer.task_id in gold:
            right.setdefault(answer.annotator, []).append(answer.value == gold[answer.task_id])
    scores = {}
    for name, marks in sorted(right.items()):
        scores[name] = GoldScore(len(marks), sum(marks), wilson(sum(marks), len(marks)).low)
    return scores


def settle(
    answers: Answers,
    tasks: Sequence[Task],
    *,
    min_share: float = MIN_SHARE,
    min_answers: int = 2,
    leave_out: Collection[str] = (),
) -> Settled:
    """The value that at least `min_share` of the annotators gave; everything else is disputed, ties always.

    Gold items keep their known value. `leave_out` names annotators who are not counted (see `gold_scores`). Raises
    ConfigError for a share that is none.
    """
    if not 0.5 <= min_share <= 1:
        raise ConfigError(f"min_share {min_share}: expected 0.5 to 1", fix="min_share = 0.67")
    values, shares, disputes, num_too_few = {}, {}, [], 0
    by_task = answers.votes
    for task in tasks:
        votes = {who: value for who, value in by_task.get(task.id, {}).items() if who not in leave_out}
        if task.gold:
            values[task.id], shares[task.id] = task.gold, 1.0
            continue
        if len(votes) < min_answers:
            num_too_few += 1
            continue
        ranked = Counter(votes.values()).most_common(2)
        share = ranked[0][1] / len(votes)
        is_tie = len(ranked) > 1 and ranked[1][1] == ranked[0][1]
        if is_tie or share < min_share - 1e-9:
            disputes.append(Dispute(task.id, votes))
        else:
            values[task.id], shares[task.id] = ranked[0][0], share
    return Settled(values, shares, tuple(disputes), num_too_few)


def adjudication_tasks(settled: Settled, tasks: Sequence[Task]) -> list[Task]:
    """The disputed tasks once more, for a person who decides; what was said is shown, without names."""
    by_id = {task.id: task for task in tasks}
    found = []
    for dispute in settled.disputes:
        counts = Counter(dispute.votes.values()).most_common()
        said = "; ".join(f"{value} ({count})" for value, count in counts)
        task = by_id[dispute.task_id]
        question = f"{task.question} Annotators disagree: {said}. Decide, and say why in the comment."
        found.append(task.model_copy(update={"question": question}))
    return found


def adjudicated(settled: Settled, decisions: Answers) -> Settled:
    """What was settled with an adjudicator's decisions put in; what they left open stays disputed."""
    decided = {answer.task_id: answer.value for answer in decisions.answers}
    disputed = {dispute.task_id for dispute in settled.disputes}
    counted = {name: value for name, value in decided.items() if name in disputed}
    rest = tuple(dispute for dispute in settled.disputes if dispute.task_id not in counted)
    shares = {**settled.shares, **dict.fromkeys(counted, 1.0)}
    return Settled({**settled.values, **counted}, shares, rest, settled.num_too_few)


def annotated_samples(
    settled: Settled | Answers, tasks: Sequence[Task], *, retrieved_at: str, licence: str = UNKNOWN_LICENCE
) -> list[Sample]:
    """Samples to train on: settled labels, or every approved written answer; drafts are left out.

    Each carries its provenance and the version of the guidelines it was made under. A task that came from a source
    keeps that source's licence and share policy.
    """
    by_id = {task.id: task for task in tasks}
    if isinstance(settled, Settled):
        chosen = [(by_id[name], value, _meta(by_id[name], settled)) for name, value in settled.values.items()]
    else:
        written = [answer for answer in settled.answers if answer.approved and answer.task_id in by_id]
        chosen = [(by_id[answer.task_id], answer.value, _own_meta(answer)) for answer in written]
    return [_sample(task, value, meta, retrieved_at, licence) for task, value, meta in chosen]


def _meta(task: Task, settled: Settled) -> dict[str, Any]:
    return {"guideline": task.guideline, "agreement": round(settled.shares[task.id], 3)}


def _own_meta(answer: Answer) -> dict[str, Any]:
    fields = {"guideline": answer.guideline, "annotator": answer.annotator, "tone": answer.tone}
    return {name: value for name, value in fields.items() if value}


def _sample(task: Task, value: str, meta: dict[str, Any], retrieved_at: str, licence: str) -> Sample:
    content = hashlib.sha256(f"{task.input}\0{value}".encode("utf-8", "replace")).hexdigest()
    origin = task.source
    provenance = Provenance(
        source=f"annotation of {origin.source}" if origin else "annotation",
        licence=origin.licence if origin else licence,
        retrieved_at=retrieved_at,
        sha256=content,
        share=origin.share if origin else "internal",
        url=origin.url if origin else "",
    )
    name = f"{task.id}/{meta['annotator']}" if "annotator" in meta else task.id
    messages = (Message("user", task.input), Message("assistant", value))
    return with_provenance(Sample(name, messages, group=task.id, meta={**task.meta, **meta}), provenance)


def comparisons_of(answers: Answers, tasks: Sequence[Task]) -> list[Comparison]:
    """Every answered comparison by its variants, as `bradley_terry` takes them."""
    by_id = {task.id: task for task in tasks if task.kind == "comparison"}
    outcomes: dict[str, Outcome] = {"a": "a", "b": "b", "tie": "tie"}
    return [
        Comparison(by_id[answer.task_id].variants[0], by_id[answer.task_id].variants[1], outcomes[answer.value])
        for answer in answers.answers
        if answer.task_id in by_id
    ]


def preference_samples(settled: Settled, tasks: Sequence[Task], *, retrieved_at: str) -> list[Sample]:
    """Settled comparisons as preference samples: `messages` end in the better answer, `rejected` in the worse one.

    Ties are left out.
    """
    samples = []
    for task in tasks:
        value = settled.values.get(task.id)
        if task.kind != "comparison" or value not in ("a", "b"):
            continue
        chosen, rejected = (task.option_a, task.option_b) if value == "a" else (task.option_b, task.option_a)
        sample = _sample(task, chosen, _meta(task, settled), retrieved_at, UNKNOWN_LICENCE)
        worse = (Message("user", task.input), Message("assistant", rejected))
        samples.append(replace(sample, rejected=worse, group=task.id.partition("|")[0]))
    return samples


def tone_counts(answers: Iterable[Answer]) -> Mapping[str, int]:
    """How many answers have each tone that annotators named, the most common first; "" where they named none."""
    return dict(Counter(answer.tone for answer in answers).most_common())
