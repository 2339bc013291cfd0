"""Drift: tests keep their level, alarms come when they should, and gaps are filled by the right number of rows."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from foretune.errors import ScoreError
from foretune.stats.drift import examples_needed, ks_shift, mmd_shift, share_p_value, tail_drift


def test_tail_alarm_keeps_its_level_and_sees_five_strange_rows_in_a_hundred() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=2000)
    quiet = [tail_drift(reference, rng.normal(size=100)).alarm for _ in range(100)]
    strange = [
        tail_drift(reference, np.concatenate([rng.normal(size=95), rng.normal(4, 1, size=5)])).alarm for _ in range(30)
    ]
    assert np.mean(quiet) <= 0.03
    assert np.mean(strange) >= 0.9


def test_tail_alarm_does_not_depend_on_the_scale_of_the_distances() -> None:
    rng = np.random.default_rng(2)
    reference, batch = rng.normal(size=500), rng.normal(0.3, 1, size=80)
    first, second = tail_drift(reference, batch), tail_drift(np.exp(reference), np.exp(batch))
    assert first == second
    assert first.expected_beyond == pytest.approx(0.8)


def test_tail_alarm_refuses_no_rows() -> None:
    with pytest.raises(ScoreError):
        tail_drift([0.1, 0.2], [])


def test_mmd_sees_a_moved_mean_and_not_two_samples_of_one_kind() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(150, 5)), rng.normal(size=(120, 5))
    assert mmd_shift(first, second).p_value > 0.01
    assert mmd_shift(first, second + 1).p_value < 0.01
    assert mmd_shift(first, second) == mmd_shift(first, second)
    with pytest.raises(ScoreError, match="at least 2"):
        mmd_shift(first[:1], second)


def test_ks_sees_longer_texts() -> None:
    rng = np.random.default_rng(4)
    assert ks_shift(rng.normal(size=300), rng.normal(1, 1, size=300)).p_value < 1e-6


def test_share_gap_of_a_rare_slice_is_no_chance() -> None:
    assert share_p_value(50, 1000, 200, 1000) < 1e-10
    assert share_p_value(1, 20, 4, 20) > 0.05


@pytest.mark.req("R157")
def test_examples_needed_bring_the_shares_to_those_of_production() -> None:
    counts, shares = {"billing": 100, "other": 900}, {"billing": 0.3, "other": 0.7}
    needed = examples_needed(counts, shares, ["billing"])
    assert needed == {"billing": 286}
    assert pytest.approx(0.3, abs=0.001) == (100 + 286) / (1000 + 286)


def test_two_gaps_are_filled_together() -> None:
    counts, shares = {"a": 0, "b": 50, "c": 950}, {"a": 0.2, "b": 0.3, "c": 0.5}
    needed = examples_needed(counts, shares, ["a", "b"])
    whole = 1000 + sum(needed.values())
    assert needed["a"] / whole == pytest.approx(0.2, abs=0.001)
    assert (50 + needed["b"]) / whole == pytest.approx(0.3, abs=0.001)


def test_gaps_that_are_all_of_production_are_balanced_among_each_other() -> None:
    needed = examples_needed({"a": 30, "b": 10}, {"a": 0.5, "b": 0.5}, ["a", "b"])
    assert needed == {"a": 0, "b": 20}
    assert examples_needed({}, {}, []) == {}
