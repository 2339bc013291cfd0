"""The page of a comparison: the sentence first, every figure from the record, nothing loaded, everything escaped."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from foretune.records.comparison import (
    ComparisonRecord,
    GuardResult,
    OfflineClaim,
    OfflineResult,
    OnlineEffect,
    OnlineResult,
    RatioResult,
    SliceResult,
    VariantRow,
    WeekdayEffect,
)
from foretune.ui.compared import comparison_headline, write_comparison_page

GUARD = "at worst 0.2 worse where 0.1 is allowed"


def claim(metric: str, value: float, **changes: Any) -> OfflineClaim:
    """A difference of two runs, 4 points to either side."""
    return OfflineClaim(
        baseline="run-001",
        candidate="run-002",
        metric=metric,
        is_primary=metric == "accuracy",
        n=200,
        value=value,
        ci_low=value - 0.04,
        ci_high=value + 0.04,
        p_value=0.001,
        p_adjusted=0.002,
        supported=True,
        method="McNemar",
        smallest_visible_difference=0.05,
        n_needed=None,
        **changes,
    )


def offline() -> OfflineResult:
    """Two runs: better on accuracy, longer answers, a setting with markup in it, and two slices."""
    scores = {"accuracy": 0.5, "exact_match": 0.4, "length_words": 7.25}
    rows = [VariantRow(name=f"run-00{n}", run_id="r", system="s", n=200, scores=scores, settings={}) for n in (1, 2)]
    settings = [{"base": "<b>pebble</b>", "train.epochs": 1.0}, {"base": "other", "train.epochs": 3.0}]
    slices = [
        SliceResult(slice=name, n=60, value=value, ci_low=value - 0.1, ci_high=value + 0.1, p_value=0.01, flagged=flag)
        for name, value, flag in (("expected = <i>yes</i>", -0.2, True), ("question over 9 characters", 0.05, False))
    ]
    return OfflineResult(
        primary_metric="accuracy",
        n=200,
        variants=tuple(row.model_copy(update={"settings": one}) for row, one in zip(rows, settings, strict=True)),
        claims=(
            claim("accuracy", 0.123, verdict="better", reason="it is"),
            claim("exact_match", -0.06),
            claim("length_words", 3.5),
        ),
        slices=tuple(slices),
        slices_too_small=2,
        warnings=("look 2 at this test split",),
    )


def effect(outcome: str, value: float, mean: float, low: float | None = -0.01) -> OnlineEffect:
    """A difference in traffic."""
    return OnlineEffect(
        outcome=outcome,
        candidate="tuned",
        value=value,
        ci_low=low,
        ci_high=None if low is None else value + 0.05,
        confidence=95,
        method="confidence sequence",
        baseline_mean=mean,
        candidate_mean=mean + value,
        units={"baseline": 700, "candidate": 710},
    )


def online(**changes: Any) -> OnlineResult:
    """A candidate under way, with a breached guard and one day of the week."""
    values: dict[str, Any] = {
        "candidate": "tuned",
        "status": "running",
        "verdict": "inconclusive",
        "reason": "Not proven yet.",
        "rollback": True,
        "rollback_reasons": (GUARD,),
        "full_days": 9,
        "planned_days": 14,
        "decided_day": None,
        "primary": effect("task_completion", 0.0321, 0.6),
        "guards": (
            GuardResult(effect=effect("latency_seconds", 0.3, 1.1), margin=0.11, status="breached", reason=GUARD),
            GuardResult(effect=effect("cost_usd", 0.0, 0.0, None), margin=0.1, status="no data", reason="not logged"),
        ),
        "weekdays": (
            WeekdayEffect(
                weekday="Monday", baseline_mean=0.6, candidate_mean=0.65, value=0.05, ci_low=-0.02, ci_high=0.12
            ),
        ),
    }
    return OnlineResult(**values | changes)


RATIO = RatioResult(
    observed={"control": 700, "tuned": 710}, expected={"control": 705.0, "tuned": 705.0}, p_value=0.8, smallest_p=0.4,
    day=3, alarm=False,
)  # fmt: skip


def both(**changes: Any) -> ComparisonRecord:
    """Samples and traffic."""
    values: dict[str, Any] = {
        "state": "not_proven",
        "headline": f"Roll back tuned: {GUARD}.",
        "offline": offline(),
        "online": (online(),),
        "ratio": RATIO,
        "gap": "offline accuracy +0.123; online task_completion +0.0321: not shown in production.",
    }
    return ComparisonRecord(**values | changes)


@pytest.mark.req("R289")
def test_the_page_sets_samples_beside_traffic_and_says_what_the_record_says(tmp_path: Path) -> None:
    text = write_comparison_page(tmp_path / "c.html", both()).read_text(encoding="utf-8")
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text.replace("\u00a0", " ")))
    assert plain.index(GUARD) < plain.index("Samples and traffic side by side") < plain.index("Where they differ")
    for figure in (
        "+12.3",
        "+8.3 to +16.3",
        "−6",
        "+3.21",
        "−1 to +8.21",
        "1.1",
        "1.4",
        "0.11",
        "7.250",
        "1,410 users",
    ):
        assert figure in plain, figure
    assert "2 slices too small to test" in plain and "look 2 at this test split" in plain
    assert "breached" in plain and "no data" in plain and "Monday" in plain
    assert "<b>pebble</b>" not in text and "<i>yes</i>" not in text and "&lt;i&gt;yes" in text
    assert not re.search(r"(src|href)=\"(?!#)", text) and "<script" not in text


def test_each_state_has_its_own_mark() -> None:
    def kind(record: ComparisonRecord) -> tuple[str, str]:
        found = comparison_headline(record)
        return found.verdict, found.label

    alone = {"online": (), "ratio": None, "gap": ""}
    assert kind(both()) == ("worse", "Roll back")
    assert kind(both(state="proven", online=(online(rollback=False, verdict="better"),))) == ("better", "Proven")
    assert kind(both(state="promising", **alone)) == ("open", "Promising")
    assert kind(both(online=(online(rollback=False, verdict="worse"),))) == ("worse", "Worse")
    assert kind(both(online=(online(rollback=False),))) == ("inconclusive", "Not proven")
    worse = offline().model_copy(update={"claims": (claim("accuracy", -0.1, verdict="worse"),)})
    assert kind(both(offline=worse, **alone)) == ("worse", "Worse")


def test_traffic_without_a_result_has_a_page_too(tmp_path: Path) -> None:
    blocked = online(
        status="blocked", primary=None, guards=(), weekdays=(), rollback=False, reason="No result is shown."
    )
    alarm = RATIO.model_copy(update={"alarm": True, "checklist": ("bots <or> checks",)})
    record = both(offline=None, online=(blocked,), ratio=alarm, gap="", headline="tuned: No result is shown.")
    text = write_comparison_page(tmp_path / "c.html", record).read_text(encoding="utf-8")
    assert "bots &lt;or&gt; checks" in text and "not split as configured" in text and "No result is shown." in text
