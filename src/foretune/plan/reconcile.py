"""Predicted against actual: whether each figure fell into its interval, in numbers and in one sentence."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence

from foretune.plan.ledger import LedgerEntry
from foretune.records.plan import Estimate, PlanRecord, Reconciliation
from foretune.units import show_bytes, show_range, show_seconds, show_usd

__all__ = ["ledger_entries", "outcome_sentence", "reconcile"]

PLAIN_SECONDS = 120  # below two minutes seconds compare more easily than minutes


def reconcile(
    plan_record: PlanRecord,
    *,
    train_seconds: float | None = None,
    peak_memory_bytes: int | None = None,
    total_seconds: float | None = None,
    num_steps: int | None = None,
) -> tuple[Reconciliation, ...]:
    """Each quantity that was measured, against its prediction; the cost follows from `total_seconds`.

    `num_steps` are the steps done: a run that stopped early is held against that share of the predicted steps.
    """
    done = num_steps / plan_record.num_steps if num_steps is not None and plan_record.num_steps else 1.0
    train = _times(plan_record.train_seconds, done)
    total = _minus(plan_record.total_seconds, _times(plan_record.train_seconds, 1 - done))
    price = plan_record.price_per_hour_usd / 3600
    pairs: list[tuple[str, Estimate, float | None]] = [
        ("train_seconds", train, train_seconds),
        ("peak_memory_gb", plan_record.peak_memory_gb, None if peak_memory_bytes is None else peak_memory_bytes / 1e9),
        ("total_seconds", total, total_seconds),
        ("cost_usd", _times(total, price), None if total_seconds is None or not price else total_seconds * price),
    ]
    return tuple(
        Reconciliation(quantity=quantity, predicted=predicted, actual=actual, held=predicted.holds(actual))
        for quantity, predicted, actual in pairs
        if actual is not None
    )


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(low=estimate.low * factor, expected=estimate.expected * factor, high=estimate.high * factor)


def _minus(estimate: Estimate, part: Estimate) -> Estimate:
    return Estimate(
        low=estimate.low - part.low, expected=estimate.expected - part.expected, high=estimate.high - part.high
    )


def outcome_sentence(reconciliation: Reconciliation) -> str:
    """`predicted 58-71 s, took 66 s`, with the side on which it missed, if it did."""
    low, high, actual = reconciliation.predicted.low, reconciliation.predicted.high, reconciliation.actual
    if reconciliation.quantity.endswith("_seconds"):
        text = f"predicted {_range(low, high)}, took {_duration(actual)}"
    elif reconciliation.quantity.endswith("_usd"):
        text = f"predicted {show_usd(low)} to {show_usd(high)}, cost {show_usd(actual)}"
    else:
        text = f"predicted {show_bytes(low * 1e9)} to {show_bytes(high * 1e9)}, peaked at {show_bytes(actual * 1e9)}"
    if reconciliation.held:
        return text
    return f"{text} ({'more' if actual > high else 'less'} than predicted)"


def _range(low: float, high: float) -> str:
    return f"{low:.0f}-{high:.0f} s" if 10 <= high < PLAIN_SECONDS else show_range(low, high)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if 10 <= seconds < PLAIN_SECONDS else show_seconds(seconds)


def ledger_entries(
    run_id: str, plan_record: PlanRecord, reconciliations: Sequence[Reconciliation]
) -> tuple[LedgerEntry, ...]:
    """What a finished run adds to the ledger of its machine."""
    return tuple(
        LedgerEntry(
            run_id=run_id,
            device=plan_record.device,
            method=plan_record.method,
            base=plan_record.base,
            probed=plan_record.probed,
            quantity=item.quantity,
            predicted=item.predicted,
            actual=item.actual,
            engine=plan_record.engine,
        )
        for item in reconciliations
    )
