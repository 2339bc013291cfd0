"""Four answers instead of a score: better, not_better, worse or inconclusive, each with its reason in one sentence."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from foretune.errors import ScoreError
from foretune.stats.paired import MARGIN, PairedResult, settling_difference
from foretune.stats.power import samples_for_noninferiority, samples_needed

__all__ = ["Noninferiority", "Verdict", "VerdictValue", "noninferior", "verdict"]

VerdictValue = Literal["better", "not_better", "worse", "inconclusive"]


class Noninferiority(NamedTuple):
    """Whether a guardrail holds: the candidate is proven not worse by `margin` or more.

    `holds`: the one-sided lower bound lies above -margin; `breached`: the whole interval lies below it; else
    `unproven`, with the samples that would prove it for a candidate that changed nothing.
    """

    name: str
    status: Literal["holds", "breached", "unproven"]
    margin: float
    lower_bound: float
    n_needed: int
    reason: str

    @property
    def holds(self) -> bool:
        """True only where the guardrail is proven to hold."""
        return self.status == "holds"


class Verdict(NamedTuple):
    """The verdict, why, the samples that an inconclusive one needs, and the guardrails that did not hold."""

    value: VerdictValue
    reason: str
    n_needed: int | None = None
    failed_guards: tuple[str, ...] = ()


def noninferior(result: PairedResult, margin: float, name: str = "guardrail") -> Noninferiority:
    """One-sided non-inferiority at the result's alpha: it holds where the lower bound lies above -margin.

    Several guardrails need no correction, since all of them must hold.
    """
    needed = samples_for_noninferiority(result.spread, margin, result.alpha)
    status: Literal["holds", "breached", "unproven"] = "unproven"
    if result.lower_bound > -margin:
        status = "holds"
    elif result.ci_high < -margin:
        status = "breached"
    said = {"holds": "holds", "breached": "is breached", "unproven": f"is not proven (about {needed:,} samples would)"}
    bound = f"at worst {_show(result, result.lower_bound)}, allowed {_show(result, -margin)}"
    return Noninferiority(name, status, margin, result.lower_bound, needed, f"{name} {said[status]}: {bound}")


def verdict(result: PairedResult, margin: float = MARGIN, guards: Sequence[Noninferiority] = ()) -> Verdict:
    """The verdict on candidate against baseline, from the interval alone.

    better: ci_low > 0 and every guardrail holds (the reason says where even ci_high is below the margin);
    worse: ci_high < 0; not_better: ci_high < margin (a gain worth having is ruled out), or a gain paid for with a
    breached guardrail; else inconclusive, with the samples it takes.
    """
    if margin < 0:
        raise ScoreError(f"margin is {margin}, expected 0 or more", fix="margin = 0.02")
    seen = _seen(result)
    if result.ci_low > 0:
        small = (
            f"; it is less than the {_show(result, margin).lstrip('+')} that matter" if result.ci_high < margin else ""
        )
        return _guarded(seen + small, guards)
    if result.ci_high < 0:
        return Verdict("worse", f"The candidate is worse than the baseline: {seen}.")
    if result.ci_high < margin:
        return Verdict("not_better", f"A gain of {_show(result, margin).lstrip('+')} or more is ruled out: {seen}.")
    needed = _needed(result, margin)
    more = f"about {needed:,} test samples would settle it" if needed else "no number of samples would settle it"
    return Verdict("inconclusive", f"Not proven either way: {seen}; {more}.", needed)


def _guarded(seen: str, guards: Sequence[Noninferiority]) -> Verdict:
    failed = [guard for guard in guards if not guard.holds]
    if not failed:
        return Verdict("better", f"The candidate is better than the baseline: {seen}.")
    names = tuple(guard.name for guard in failed)
    why = "; ".join(guard.reason for guard in failed)
    if any(guard.status == "breached" for guard in failed):
        return Verdict("not_better", f"The gain comes at a price: {seen}, but {why}.", None, names)
    needed = max(guard.n_needed for guard in failed)
    return Verdict("inconclusive", f"The gain is real: {seen}, but {why}.", needed, names)


def _needed(result: PairedResult, margin: float) -> int | None:
    needed = samples_needed(result.spread, settling_difference(result.value, margin), result.alpha)
    if needed is None:
        return None
    floor = math.ceil(result.min_units * result.n / result.num_units)
    return max(needed, floor, result.n + 1)


def _seen(result: PairedResult) -> str:
    level = f"{100 * (1 - result.alpha):.4g} %"
    interval = f"{_number(result, result.ci_low)} to {_number(result, result.ci_high)}"
    look = f", look {result.look} at these samples" if result.look > 1 else ""
    return f"{_show(result, result.value)} ({level} interval {interval}, n = {result.n:,}{look})"


def _show(result: PairedResult, difference: float) -> str:
    """Points for scores in 0..1, plain numbers for any other."""
    return f"{_number(result, difference)} points" if result.span == 1.0 else _number(result, difference)


def _number(result: PairedResult, difference: float) -> str:
    if result.span == 1.0:
        return f"{100 * difference:+.1f}".replace("-0.0", "+0.0")
    return f"{difference:+.3g}"
