"""How firm the verdict is: what would change it, and where the systems differ, slice by slice."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from foretune.compare.slices import MIN_SLICE, compare_slices, default_slices
from foretune.diagnose import is_lower_better
from foretune.errors import ScoreError
from foretune.records.comparison import SliceResult
from foretune.records.evaluation import Answer, EvaluationRecord
from foretune.records.ratings import RatingsRecord
from foretune.stats.paired import PairedResult, compare_paired
from foretune.ui.answers import Pair, paired_answers, score_key
from foretune.ui.charts import Scale, axis, interval_bar, scale_of
from foretune.ui.words import Measure, metric_name, plural, signed

__all__ = ["SliceView", "SlicesView", "slices_view", "verdict_changes"]

ALPHA = 0.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SliceView:
    """One slice of the test samples with the difference in it."""

    name: str
    n: str
    change: str
    interval: str
    tone: str
    words: str
    bar: Markup


@dataclass(frozen=True)
class SlicesView:
    """The slices on one scale, the worst for the candidate first."""

    metric: str
    rows: tuple[SliceView, ...]
    axis: Markup
    too_small: str


def slices_view(evaluation: EvaluationRecord, answers: Sequence[Answer]) -> SlicesView | None:
    """The paired difference within slices by expected answer and by length of the question; None without answers.

    Slices of at least 30 samples, flagged at a false-discovery rate of 5 %. Rows are taken as independent.
    """
    key, pairs = _pairs(evaluation, answers)
    if not pairs:
        return None
    members = default_slices([pair.tuned.expected for pair in pairs], [_question(pair) for pair in pairs])
    try:
        found = compare_slices(members, lambda rows: _compared([pairs[row] for row in rows], evaluation.look))
    except ScoreError:
        return None
    if not found.results:
        return None
    ranked = sorted(found.results, key=lambda result: result.value)
    scale = _scale(ranked)
    is_fraction = _is_fraction(pairs)
    small = plural(found.too_small, "slice")
    return SlicesView(
        metric=metric_name(key),
        rows=tuple(_slice_row(result, scale, is_fraction) for result in ranked),
        axis=axis(scale, [_shown(tick, is_fraction) for tick in scale.ticks]),
        too_small=f"{small} of fewer than {MIN_SLICE} samples left out" if found.too_small else "",
    )


def _pairs(evaluation: EvaluationRecord, answers: Sequence[Answer]) -> tuple[str, list[Pair]]:
    if is_lower_better(evaluation.primary_metric):
        return "", []
    key = score_key(evaluation, answers)
    return key, paired_answers(evaluation, answers, key)


def _question(pair: Pair) -> str:
    asked = [message.get("content", "") for message in pair.tuned.messages if message.get("role") == "user"]
    return asked[-1] if asked else ""


def _is_binary(pairs: Sequence[Pair]) -> bool:
    return all(score in (0.0, 1.0) for pair in pairs for score in (pair.before, pair.after))


def _is_fraction(pairs: Sequence[Pair]) -> bool:
    return all(0.0 <= score <= 1.0 for pair in pairs for score in (pair.before, pair.after))


def _compared(pairs: Sequence[Pair], look: int) -> PairedResult:
    before, after = ([getattr(pair, side) for pair in pairs] for side in ("before", "after"))
    return _tested(np.asarray(before, np.float64), np.asarray(after, np.float64), pairs, look)


def _tested(before: Floats, after: Floats, pairs: Sequence[Pair], look: int) -> PairedResult:
    if _is_binary(pairs):
        return compare_paired(before, after, "binary", alpha=ALPHA, look=max(1, look))
    span = (0.0, 1.0) if _is_fraction(pairs) else None
    return compare_paired(before, after, "graded", alpha=ALPHA, look=max(1, look), score_range=span)


def _scale(results: Sequence[SliceResult]) -> Scale:
    return scale_of(min(0.0, *(r.ci_low for r in results)), max(0.0, *(r.ci_high for r in results)))


def _shown(value: float, is_fraction: bool) -> str:
    return signed(f"{100 * value:+.0f}" if is_fraction else f"{value:+.3g}").replace("+0", "0") if value else "0"


def _slice_row(result: SliceResult, scale: Scale, is_fraction: bool) -> SliceView:
    words = "no difference proven"
    if result.flagged:
        words = "better" if result.value > 0 else "worse"
    tone = {"better": "gained", "worse": "lost"}.get(words, "kept")
    change = _shown(result.value, is_fraction)
    interval = f"{_shown(result.ci_low, is_fraction)} to {_shown(result.ci_high, is_fraction)}"
    label = f"{result.slice}: {change} ({interval}), n = {result.n:,}"
    bar = interval_bar(scale, result.ci_low, result.value, result.ci_high, tone, label)
    return SliceView(result.slice, f"{result.n:,}", change, interval, tone, words, bar)


# --- what would change it -------------------------------------------------------------------------------------------


def verdict_changes(
    evaluation: EvaluationRecord, answers: Sequence[Answer], ratings: RatingsRecord | None = None
) -> tuple[str, ...]:
    """What would turn the verdict, most telling first: answers judged otherwise, more samples, another look, people."""
    measure = Measure(evaluation.primary_metric, evaluation)
    lines = [*_changes(evaluation, answers, measure), _unrated(evaluation, ratings)]
    return tuple(line for line in lines if line)


def _changes(evaluation: EvaluationRecord, answers: Sequence[Answer], measure: Measure) -> Iterable[str]:
    yield _flips(evaluation, answers)
    if evaluation.n_needed:
        yield f"About {evaluation.n_needed:,} test samples instead of {evaluation.n:,}, if the difference stays so."
    visible = measure.change(evaluation.smallest_visible_difference).lstrip("+")
    margin = measure.change(evaluation.margin).lstrip("+")
    yield f"A true difference below {visible} would mostly go unseen by these {evaluation.n:,} samples (80 % power)."
    if evaluation.verdict in ("not_better", "inconclusive"):
        yield f"A gain counts as worth having from {margin} up (evaluate.advanced.margin)."
    percent = round(100.0 - 5.0 / (max(1, evaluation.look) + 1), 2)
    yield f"Another look at the same samples is judged at {percent:g} % instead of {evaluation.confidence_percent:g} %."


def _unrated(evaluation: EvaluationRecord, ratings: RatingsRecord | None) -> str:
    """What people have not judged yet."""
    if ratings is None or not ratings.num_votes:
        count = evaluation.human_eval_queue
        return f"{plural(count, 'answer')} wait for a person's rating; so far only scorers judged." if count else ""
    left = ratings.num_pairs - ratings.num_rated
    return f"{plural(left, 'pair')} wait for a person's rating." if left > 0 else ""


def _flips(evaluation: EvaluationRecord, answers: Sequence[Answer]) -> str:
    """How many single answers, judged the other way, turn the verdict; only where answers are right or wrong."""
    key, pairs = _pairs(evaluation, answers)
    if not pairs or key != evaluation.primary_metric or not _is_binary(pairs):
        return ""
    falls = evaluation.verdict == "better"
    movable = [row for row, pair in enumerate(pairs) if pair.after == float(falls)]
    movable.sort(key=lambda row: pairs[row].before if falls else -pairs[row].before)
    count = _fewest(pairs, movable, falls, evaluation)
    if count is None:
        return ""
    share = f"{100 * count / len(pairs):.1f} % of the {len(pairs):,} samples"
    if falls:
        return (
            f"{plural(count, 'right answer')} of the fine-tuned model judged wrong instead ({share}): no longer better."
        )
    end = "no longer worse" if evaluation.verdict == "worse" else "better"
    return f"{plural(count, 'wrong answer')} of the fine-tuned model judged right instead ({share}): {end}."


def _fewest(pairs: Sequence[Pair], movable: Sequence[int], falls: bool, evaluation: EvaluationRecord) -> int | None:
    """The fewest flips of `movable`, in this order, after which the verdict is another one; by bisection."""
    before = np.array([pair.before for pair in pairs])
    after = np.array([pair.after for pair in pairs])

    def is_turned(count: int) -> bool:
        moved = after.copy()
        moved[list(movable[:count])] = 0.0 if falls else 1.0
        result = _tested(before, moved, pairs, evaluation.look)
        if falls:
            return result.ci_low <= 0
        return result.ci_high >= 0 if evaluation.verdict == "worse" else result.ci_low > 0

    low, high = 0, len(movable)
    if not movable or not is_turned(high) or is_turned(0):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_turned(middle) else (middle, high)
    return high
