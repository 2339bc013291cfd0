"""Simulated comparisons, seeded: false alarms, coverage and power stay in the bands that the design promises."""

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy.special import ndtri

from foretune.stats.multiplicity import holm
from foretune.stats.paired import compare_paired, compare_paired_metric
from foretune.stats.power import Spread, visible_difference
from foretune.stats.verdict import noninferior, verdict


def binary_pair(rng, n, baseline_rate, candidate_rate, correlation):
    """Two 0/1 systems from latent normal abilities with the given correlation."""
    baseline, own = rng.standard_normal((2, n))
    candidate = correlation * baseline + (1 - correlation**2) ** 0.5 * own
    return (baseline < ndtri(baseline_rate)).astype(float), (candidate < ndtri(candidate_rate)).astype(float)


def within(rate, nominal, reps):
    """Not above the nominal rate by more than two standard errors."""
    return rate <= nominal + 2 * np.sqrt(nominal * (1 - nominal) / reps)


@pytest.mark.parametrize(("n", "rate"), [(30, 0.7), (50, 0.5), (100, 0.7), (100, 0.95), (500, 0.7)])
@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_binary_null(n, rate, correlation):
    rng, reps = np.random.default_rng(n), 1500
    results = [compare_paired(*binary_pair(rng, n, rate, rate, correlation)) for _ in range(reps)]
    assert within(np.mean([result.p_value <= 0.05 for result in results]), 0.05, reps)
    assert within(np.mean([result.ci_low > 0 or result.ci_high < 0 for result in results]), 0.05, reps)
    assert within(np.mean([verdict(result).value == "better" for result in results]), 0.025, reps)


@pytest.mark.parametrize(("n", "reps"), [(12, 1000), (25, 500), (60, 1000)])
def test_graded_null(n, reps):
    rng = np.random.default_rng(n)
    scores = [(rng.beta(2, 1, n), rng.beta(2, 1, n)) for _ in range(reps)]
    results = [compare_paired(*pair, "graded") for pair in scores]
    false = np.mean([result.ci_low > 0 or result.ci_high < 0 for result in results])
    assert within(false, 0.05, reps) and false >= 0.03
    significant = [result.p_value <= 0.05 for result in results]
    assert np.mean(significant) == pytest.approx(false, abs=0.002)


@pytest.mark.parametrize(("num_groups", "per_group"), [(8, 20), (20, 10), (50, 10)])
def test_clustered_null(num_groups, per_group):
    rng, reps = np.random.default_rng(num_groups), 800
    groups = np.repeat(np.arange(num_groups), per_group)
    naive = false = 0
    for _ in range(reps):
        shift = rng.normal(0, 0.3**0.5, num_groups)[groups] + rng.normal(0, 0.7**0.5, groups.size)
        differences = np.clip(0.1 * shift, -1, 1)
        scores = np.clip(-differences, 0, 1), np.clip(differences, 0, 1)
        result = compare_paired(*scores, "graded", groups.tolist())
        plain = compare_paired(*scores, "graded")
        false += result.ci_low > 0 or result.ci_high < 0
        naive += plain.ci_low > 0 or plain.ci_high < 0
    assert within(false / reps, 0.055, reps)
    assert naive / reps > 0.2  # what leaving the groups out would cost


@pytest.mark.parametrize("n", [30, 200])
def test_binary_coverage(n):
    rng, reps = np.random.default_rng(n), 1500
    results = [compare_paired(*binary_pair(rng, n, 0.6, 0.7, 0.6)) for _ in range(reps)]
    covered = np.mean([result.ci_low <= 0.1 <= result.ci_high for result in results])
    assert 0.94 <= covered <= 0.975


def test_binary_power_is_that_of_the_design():
    rng, reps = np.random.default_rng(1), 1500
    results = [compare_paired(*binary_pair(rng, 400, 0.70, 0.75, 0.7)) for _ in range(reps)]
    assert np.mean([result.p_value <= 0.05 for result in results]) == pytest.approx(0.59, abs=0.06)


def changed(rng, n, discordance, difference):
    """A pair of 0/1 systems with the given discordance and true difference."""
    outcome = rng.random(n)
    lost, won = (discordance - difference) / 2, (discordance + difference) / 2
    return (outcome < lost).astype(float), ((outcome >= lost) & (outcome < lost + won)).astype(float)


def test_the_visible_difference_is_seen_four_times_in_five():
    rng, reps, n = np.random.default_rng(2), 1000, 300
    visible = visible_difference(Spread("discordance", 0.2), n)
    results = [compare_paired(*changed(rng, n, 0.2, visible)) for _ in range(reps)]
    assert np.mean([result.ci_low > 0 for result in results]) == pytest.approx(0.8, abs=0.04)
    assert np.mean([result.smallest_visible_difference for result in results]) == pytest.approx(visible, rel=0.02)


@pytest.mark.parametrize(("n", "passes"), [(500, 0.64), (1000, 0.85)])
def test_guardrail_passes_the_unchanged_and_stops_the_worse(n, passes):
    rng, reps = np.random.default_rng(n), 1000
    unchanged = [noninferior(compare_paired(*changed(rng, n, 0.12, 0.0)), 0.03).holds for _ in range(reps)]
    worse = [noninferior(compare_paired(*changed(rng, n, 0.12, -0.03)), 0.03).holds for _ in range(reps)]
    assert np.mean(unchanged) == pytest.approx(passes, abs=0.05)
    assert within(np.mean(worse), 0.05, reps)


def macro_f1(sums):
    hits, given, wanted = np.split(sums, 3, axis=1)
    return (2 * hits / np.maximum(given + wanted, 1)).mean(axis=1)


def class_rows(given, wanted):
    one_hot = np.eye(3)
    return np.concatenate([one_hot[given] * one_hot[wanted], one_hot[given], one_hot[wanted]], axis=1)


@pytest.mark.parametrize("n", [20, 200])
def test_macro_f1_null(n):
    rng, reps, false = np.random.default_rng(n), 400, 0
    for _ in range(reps):
        wanted = rng.choice(3, n, p=[0.6, 0.3, 0.1])
        noise = rng.integers(0, 3, (2, n))
        ours, theirs = (np.where(rng.random(n) < 0.7, wanted, guess) for guess in noise)
        result = compare_paired_metric(class_rows(ours, wanted), class_rows(theirs, wanted), macro_f1, draws=500)
        false += result.ci_low > 0 or result.ci_high < 0
    assert within(false / reps, 0.055, reps)


def test_holm_holds_the_family():
    rng, reps = np.random.default_rng(4), 2000
    families = rng.random((reps, 10))
    false = np.mean([min(holm(family)) <= 0.05 for family in families])
    uncorrected = np.mean(families.min(axis=1) <= 0.05)
    assert within(false, 0.05, reps)
    assert uncorrected > 0.35
