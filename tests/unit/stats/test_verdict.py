"""The four verdicts, their reasons, and guardrails."""

# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from foretune.errors import ScoreError
from foretune.stats.paired import compare_paired
from foretune.stats.verdict import noninferior, verdict


def compared(lost, won, n, **keywords):
    baseline = [1] * lost + [0] * won + [1] * (n - lost - won)
    candidate = [0] * lost + [1] * won + [1] * (n - lost - won)
    return compare_paired(baseline, candidate, **keywords)


@pytest.mark.parametrize(
    ("lost", "won", "n", "value"),
    [
        (5, 45, 200, "better"),
        (45, 5, 200, "worse"),
        (40, 35, 4000, "not_better"),
        (0, 0, 2000, "not_better"),
        (10, 14, 200, "inconclusive"),
        (0, 0, 30, "inconclusive"),
        (0, 1, 1, "inconclusive"),
    ],
)
def test_values(lost, won, n, value):
    assert verdict(compared(lost, won, n)).value == value


@pytest.mark.req("R285")
@pytest.mark.req("R312")
def test_interval_that_holds_zero_is_not_proven():
    result = compared(10, 18, 200)
    assert result.ci_low < 0 < result.value < result.ci_high
    answer = verdict(result)
    assert answer.value == "inconclusive"
    assert "Not proven" in answer.reason


def test_a_tiny_but_certain_gain_is_better():
    answer = verdict(compared(0, 30, 4000))
    assert answer.value == "better"  # below the margin, yet not noise; the reason says how small
    assert "less than the 2.0 points that matter" in answer.reason


def test_reason_tells_the_numbers():
    answer = verdict(compared(5, 45, 200))
    assert answer.reason.startswith("The candidate is better than the baseline: +20.0 points (95 % interval +13.")
    assert answer.reason.endswith("n = 200).")
    assert answer.n_needed is None


def test_inconclusive_tells_the_samples_it_takes():
    answer = verdict(compared(10, 14, 200))
    # +2 points at discordance 0.12: as the published table has between psi 0.1 (1960) and 0.2 (3923)
    assert 1960 < answer.n_needed < 3923
    assert f"about {answer.n_needed:,} test samples would settle it" in answer.reason


def test_samples_it_takes_are_more_than_there_were():
    answer = verdict(compared(3, 9, 40))
    assert answer.value == "inconclusive"
    assert answer.n_needed > 40


def test_that_many_samples_do_settle_it():
    answer = verdict(compared(60, 81, 1000))
    assert answer.value == "inconclusive"
    times = 2 * -(-answer.n_needed // 1000)  # twice as many: 80 % power is no certainty
    assert verdict(compared(60 * times, 81 * times, 1000 * times)).value == "better"


def test_margin_moves_the_line():
    result = compared(40, 35, 4000)
    assert verdict(result, margin=0.001).value == "inconclusive"
    assert verdict(result, margin=0.02).value == "not_better"
    with pytest.raises(ScoreError):
        verdict(result, margin=-0.01)


def test_second_look_can_undo_better():
    first, second = compared(10, 23, 200), compared(10, 23, 200, look=2)
    assert verdict(first).value == "better"
    assert verdict(second).value == "inconclusive"
    assert "97.5 % interval" in verdict(second).reason and "look 2" in verdict(second).reason


def test_plain_numbers_for_scores_of_another_range():
    result = compare_paired(
        [100.0 + i for i in range(40)], [150.0 + 2 * i for i in range(40)], "graded", score_range=None
    )
    assert "points" not in verdict(result).reason
    assert verdict(result).value == "better"


@pytest.mark.parametrize(
    ("lost", "won", "n", "status"),
    [(20, 20, 2000, "holds"), (120, 20, 1000, "breached"), (10, 10, 150, "unproven")],
)
def test_guardrails(lost, won, n, status):
    guard = noninferior(compared(lost, won, n), 0.03, "general skills")
    assert (guard.status, guard.holds) == (status, status == "holds")
    answer = verdict(compared(5, 45, 200), guards=[guard])
    expected = {"holds": "better", "breached": "not_better", "unproven": "inconclusive"}
    assert answer.value == expected[status]
    assert answer.failed_guards == (() if guard.holds else ("general skills",))
    assert ("general skills" in answer.reason) == (not guard.holds)


def test_every_failed_guardrail_is_named():
    breached = noninferior(compared(120, 20, 1000), 0.03, "arithmetic")
    unproven = noninferior(compared(10, 10, 150), 0.03, "copying")
    fine = noninferior(compared(20, 20, 2000), 0.03, "stories")
    answer = verdict(compared(5, 45, 200), guards=[fine, unproven, breached])
    assert answer.value == "not_better"
    assert answer.failed_guards == ("copying", "arithmetic")


def test_unproven_guardrail_says_how_many_samples():
    guard = noninferior(compared(9, 9, 150), 0.03)
    answer = verdict(compared(5, 45, 200), guards=[guard])
    assert answer.n_needed == guard.n_needed == pytest.approx(6.1826 * 0.12 / 0.03**2, abs=1)


def test_guardrails_do_not_save_a_failure():
    fine = noninferior(compared(20, 20, 2000), 0.03)
    assert verdict(compared(45, 5, 200), guards=[fine]).value == "worse"
    assert verdict(compared(10, 14, 200), guards=[fine]).value == "inconclusive"


def test_lower_bound_is_one_sided():
    result = compared(30, 30, 1000)
    assert result.lower_bound == pytest.approx(compared(30, 30, 1000, alpha=0.1).ci_low)
    assert noninferior(dataclasses.replace(result, lower_bound=-0.02), 0.02).holds is False
