"""Test samples that training saw: equal and near-equal inputs, and the score on them, by what evaluation wrote down."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from foretune.data.likeness import Asked
from foretune.data.neardup import near_duplicates
from foretune.data.samples import Message
from foretune.evaluate.probes.alike import Answered, HeldOut, alike_evidence
from foretune.evaluate.probes.rows import plain_input
from foretune.evaluate.probes.scope import NoEvidence, Scope
from foretune.evaluate.systems import FINE_TUNED
from foretune.records.evaluation import Answer
from foretune.records.evidence import OverlapEvidence, Score

__all__ = ["overlap_evidence", "seen_places"]


def overlap_evidence(scope: Scope) -> OverlapEvidence:
    """How many test inputs stand in training, and the primary metric on those and on the rest."""
    answers = scope.recorded_by(FINE_TUNED)
    if not answers:
        raise NoEvidence("there are no recorded answers to test samples")
    train = [plain_input(sample.prompt) for sample in scope.case.train]
    test = [plain_input([Message(turn["role"], turn["content"]) for turn in answer.messages]) for answer in answers]
    if not any(test):
        raise NoEvidence("the recorded answers are to raw text")
    exact, near = seen_places(train, test)
    held_out = HeldOut([_answer(one) for one in answers], _validation_answers(scope))
    return OverlapEvidence(
        num_test=len(test),
        num_exact=len(exact),
        num_near=len(near),
        score_seen=_score(scope, [answers[place] for place in sorted(near)]),
        score_clean=_score(scope, [answer for place, answer in enumerate(answers) if place not in near]),
        alike=alike_evidence(scope.case.train, held_out, scope.score),
    )


def seen_places(train: Sequence[str], test: Sequence[str]) -> tuple[set[int], set[int]]:
    """Places of the test texts that stand in training word for word, and of those that nearly do (both)."""
    known = set(train)
    exact = {place for place, text in enumerate(test) if text in known}
    distinct = sorted(known)
    rest = [place for place, text in enumerate(test) if place not in exact and text]
    found = near_duplicates([*distinct, *(test[place] for place in rest)])
    border = len(distinct)
    near = {rest[pair.right - border] for pair in found if pair.left < border <= pair.right}
    return exact, exact | near


def _answer(answer: Answer) -> Answered:
    asked = plain_input([Message(turn["role"], turn["content"]) for turn in answer.messages])
    return Answered(Asked(asked, answer.expected), answer.prediction)


def _validation_answers(scope: Scope) -> list[Answered]:
    if not scope.split("validation"):
        return []
    found = scope.answers("validation")
    return [
        Answered(Asked(plain_input(sample.prompt), sample.target), text)
        for sample, text in zip(found.samples, found.texts, strict=True)
    ]


def _score(scope: Scope, answers: Sequence[Answer]) -> Score | None:
    if not answers:
        return None
    return scope.score([answer.prediction for answer in answers], [answer.expected for answer in answers])
