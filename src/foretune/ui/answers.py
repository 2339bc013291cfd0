"""The answers behind the verdict: how many were mended or broken, and the worst and best side by side."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup

from foretune.diagnose import is_lower_better
from foretune.records.evaluation import Answer, EvaluationRecord
from foretune.ui.charts import share_bar
from foretune.ui.words import SYSTEMS, metric_name, plural, show_number

__all__ = ["AnswerBoard", "Case", "Pair", "Side", "answer_board", "differing", "paired_answers", "score_key"]

NUM_WORST, NUM_BEST = 4, 3
MOST_QUESTION, MOST_ANSWER = 700, 500  # characters shown


@dataclass(frozen=True)
class Side:
    """One system's answer; `pieces` are its words, each with whether it differs from what was expected."""

    title: str
    score: str
    is_right: bool
    pieces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Case:
    """One sample with what was asked, expected and answered."""

    sample_id: str
    place: str
    context: str
    question: str
    expected: str
    baseline: Side
    tuned: Side


@dataclass(frozen=True)
class AnswerBoard:
    """`outcomes` are (count, class, words) of the paired comparison on the score named `score`."""

    score: str
    outcomes: tuple[tuple[int, str, str], ...]
    bar: Markup
    worst: tuple[Case, ...]
    best: tuple[Case, ...]


@dataclass(frozen=True)
class Pair:
    """One sample answered by the baseline and by the candidate, with the score of each."""

    baseline: Answer
    tuned: Answer
    before: float
    after: float

    @property
    def change(self) -> float:
        """Candidate minus baseline."""
        return self.after - self.before


def answer_board(evaluation: EvaluationRecord, answers: Sequence[Answer]) -> AnswerBoard | None:
    """The comparison answer by answer; None where no sample was answered by both systems."""
    if is_lower_better(evaluation.primary_metric):  # raw text: there is nothing that was answered
        return None
    key = score_key(evaluation, answers)
    pairs = paired_answers(evaluation, answers, key)
    if not pairs:
        return None
    outcomes = _outcomes(pairs)
    worst = sorted((pair for pair in pairs if pair.after < 1), key=lambda pair: (pair.after, pair.change))
    best = sorted((pair for pair in pairs if pair.change > 0), key=lambda pair: (-pair.change, -pair.after))
    label = ", ".join(f"{count} {words}" for count, _, words in outcomes)
    return AnswerBoard(
        score=metric_name(key),
        outcomes=outcomes,
        bar=share_bar([(count, name, f"{count} {words}") for count, name, words in outcomes], label),
        worst=tuple(_case(pair, evaluation) for pair in worst[:NUM_WORST]),
        best=tuple(_case(pair, evaluation) for pair in best[:NUM_BEST]),
    )


def score_key(evaluation: EvaluationRecord, answers: Sequence[Answer]) -> str:
    """The score of single answers nearest to the primary metric; metrics over all samples have none of their own."""
    keys = next((tuple(answer.scores) for answer in answers if answer.system == evaluation.candidate), ())
    wanted = (evaluation.primary_metric, "exact_match", *keys)
    return next((key for key in wanted if key in keys), evaluation.primary_metric)


def paired_answers(evaluation: EvaluationRecord, answers: Sequence[Answer], key: str) -> list[Pair]:
    """The samples that baseline and candidate both answered, with their scores named `key`."""
    by_system: dict[str, dict[str, Answer]] = {evaluation.baseline: {}, evaluation.candidate: {}}
    for answer in answers:
        if answer.system in by_system and key in answer.scores:
            by_system[answer.system][answer.sample_id] = answer
    before, after = by_system[evaluation.baseline], by_system[evaluation.candidate]
    return [
        Pair(before[sample], tuned, before[sample].scores[key], tuned.scores[key])
        for sample, tuned in after.items()
        if sample in before
    ]


def _outcomes(pairs: Sequence[Pair]) -> tuple[tuple[int, str, str], ...]:
    """Right and wrong where scores are 0 or 1, else better, equal and worse."""
    if all(score in (0.0, 1.0) for pair in pairs for score in (pair.before, pair.after)):
        kinds = [(pair.before == 1, pair.after == 1) for pair in pairs]
        return (
            (kinds.count((False, True)), "mended", "mended by fine-tuning"),
            (kinds.count((True, True)), "right", "right both times"),
            (kinds.count((False, False)), "wrong", "wrong both times"),
            (kinds.count((True, False)), "broken", "broken by fine-tuning"),
        )
    changes = [pair.change for pair in pairs]
    return (
        (sum(change > 0 for change in changes), "mended", "better"),
        (sum(change == 0 for change in changes), "right", "equal"),
        (sum(change < 0 for change in changes), "broken", "worse"),
    )


def _case(pair: Pair, evaluation: EvaluationRecord) -> Case:
    messages = pair.tuned.messages
    asked = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    last = asked[-1] if asked else len(messages) - 1
    earlier = sum(message.get("role") != "system" for message in messages[: max(0, last)])
    return Case(
        sample_id=pair.tuned.sample_id,
        place=pair.tuned.place,
        context=f"after {plural(earlier, 'earlier message')}" if earlier else "",
        question=clipped(messages[last].get("content", ""), MOST_QUESTION) if messages else "",
        expected=clipped(pair.tuned.expected, MOST_ANSWER),
        baseline=_side(SYSTEMS.get(pair.baseline.system, "Base model"), pair.baseline, pair.before),
        tuned=_side("Fine-tuned", pair.tuned, pair.after),
    )


def _side(title: str, answer: Answer, score: float) -> Side:
    binary = score in (0.0, 1.0)
    words = ("right" if score else "wrong") if binary else show_number(score)
    prediction = clipped(answer.prediction, MOST_ANSWER)
    return Side(title, words, score == 1.0, tuple(differing(prediction, answer.expected)))


def differing(text: str, expected: str) -> Iterable[tuple[str, bool]]:
    """The text cut where it begins or ceases to differ, word by word, from what was expected.

    A piece that differs and is empty stands where expected words are missing.
    """
    words, others = words_of(text), words_of(expected)
    pieces: list[tuple[str, bool]] = []
    for kind, start, end, _, _ in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        piece = "".join(words[start:end])
        differs = kind != "equal" or (not piece.strip() and start > 0 and end < len(words))
        if pieces and differs and pieces[-1][1]:
            piece = pieces.pop()[0] + piece
        pieces.append((piece, differs))
    return pieces


def words_of(text: str) -> list[str]:
    """Words, single signs and white space, in order."""
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def clipped(text: str, most: int) -> str:
    """At most `most` characters, with what is left out counted."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
