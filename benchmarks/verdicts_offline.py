"""Offline verdicts: exact levels of the 0/1 test, with proof where no test does better; F1, BLEU, coverage, few data.

Parts of `python benchmarks/run.py verdicts` (bench_verdicts.py). Exact rows enumerate every outcome: no draws.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: G shares of differing samples, M = n + 1 numbers of differing samples, P outcomes (won, differing).
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix
from scipy.special import ndtri
from scipy.stats import binom, multivariate_normal

from foretune.evaluate.scorers.classification import macro_f1_of_sums
from foretune.evaluate.scorers.text import bleu_of_sums
from foretune.stats.bootstrap import MetricOfSums
from foretune.stats.cross_fit import compare_cross_fitted
from foretune.stats.intervals import bca_interval, t_mean, wilson
from foretune.stats.paired import PairedResult, compare_paired, compare_paired_metric
from foretune.stats.paired_binary import McNemar, mcnemar_mid_p
from foretune.stats.verdict import verdict

__all__ = ["coverage", "cross_fit", "exact", "metrics", "repeats"]

Row = dict[str, Any]
REPS = 4000
OPEN = ("BLEU n=100", "macro-F1 n=200, good systems")
MANY_REPS = 20_000  # where 4,000 leave it open on which side of 5.5 % a case lies
RATES, CORRELATIONS = (0.5, 0.7, 0.95), (0.0, 0.7)
BAR = 0.055  # most false differences
SHAPES = 3  # classes of the F1 simulations


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


def differing_share(rate: float, correlation: float) -> float:
    """How many samples only one of two equal systems gets right, of latent normal abilities."""
    cut = ndtri(rate)
    both = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf([cut, cut])
    return float(2 * (rate - both))


def exact() -> list[Row]:
    """False differences of two equal 0/1 systems, by enumeration; where under 3 %, the most that any test can reach."""
    rows = []
    for n in (30, 50, 100, 200):
        ours = _least_wins(n, lambda fewer, more: McNemar(fewer, more, n).p_value)  # noqa: B023
        mid_p = _least_wins(n, mcnemar_mid_p)
        size = _levels(n, ours, np.linspace(0.5 / n, 1, 400)).max()
        for rate in RATES:
            for correlation in CORRELATIONS:
                share = differing_share(rate, correlation)
                level = float(_levels(n, ours, np.array([share]))[0])
                row: Row = {
                    "case": f"exact null n={n} rate={rate} corr={correlation}",
                    "expected_differing": round(n * share, 1),
                    "false_percent": _percent(level),
                    "mid_p_percent": _percent(_levels(n, mid_p, np.array([share]))[0]),
                    "worst_case_percent": _percent(size),
                }
                if level < 0.03:
                    row["attainable_percent"] = _percent(_attainable(n, share, BAR))
                    row["three_to_none_costs_percent"] = _percent(binom.pmf(3, n, 3 / n) / 4)
                rows.append(row)
    return [*rows, *(_power(*case) for case in POWERS)]


POWERS = ((30, 0.4, 0.25), (50, 0.3, 0.2), (50, 0.1, 0.08), (100, 0.2, 0.12))  # n, share that differs, difference


def _power(n: int, share: float, difference: float) -> Row:
    """Power beside two others: the most powerful unbiased test, which tosses a coin, and a bound that no test reaches.

    The bound is the power of the valid test that is tailored to this very alternative.
    """
    chance = _outcome(n, (share - difference) / 2, (share + difference) / 2)
    powers = {
        name: sum(chance(won, m) for m in range(n + 1) for won in range(least[m], m + 1))
        for name, least in (
            ("power", _least_wins(n, lambda fewer, more: McNemar(fewer, more, n).p_value)),
            ("mid_p", _least_wins(n, mcnemar_mid_p)),
            ("conditional_exact", _least_wins(n, _conditional)),
        )
    }
    row: Row = {"case": f"exact power n={n}, {share:.0%} differ, +{100 * difference:.0f} points"}
    row |= {f"{name}_percent": _percent(value) for name, value in powers.items()}
    row["most_powerful_unbiased_percent"] = _percent(_unbiased(n, chance, 0.05))
    return row | {"tailored_bound_percent": _percent(_most(n, chance, 0.05))}


def _unbiased(n: int, chance: Callable[[int, int], float], size: float) -> float:
    """Power of the uniformly most powerful unbiased test: the sign test given m, with a coin on its edge (Lehmann)."""
    total = 0.0
    for m in range(n + 1):
        left = size / 2
        for won in range(m, m // 2 - 1, -1):
            weight = float(binom.pmf(won, m, 0.5)) / (2 if 2 * won == m else 1)  # the middle is half of either tail
            share = min(1.0, left / weight)
            total += chance(won, m) * share
            left -= share * weight
            if left <= 1e-15:
                break
    return total


def _conditional(fewer: int, more: int) -> float:
    return min(1.0, 2 * float(binom.cdf(fewer, fewer + more, 0.5)))


def _least_wins(n: int, p_value: Callable[[int, int], float], alpha: float = 0.05) -> list[int]:
    """(M,) the fewest wins of m differing samples that are significant; m + 1 where none are."""
    least = []
    for m in range(n + 1):
        found = m + 1
        for won in range(m, m // 2, -1):
            if p_value(m - won, won) > alpha:
                break
            found = won
        least.append(found)
    return least


def _levels(n: int, least: Sequence[int], share_G: np.ndarray) -> np.ndarray:
    m = np.arange(n + 1)
    tails = np.array([2 * binom.sf(least[k] - 1, k, 0.5) if least[k] <= k else 0.0 for k in range(n + 1)])
    level: np.ndarray = binom.pmf(m, n, share_G[:, None]) @ tails
    return level


def _outcome(n: int, lost: float, won: float) -> Callable[[int, int], float]:
    """Probability of (wins, differing samples)."""
    logs = np.array([math.lgamma(count + 1) for count in range(n + 1)])

    def chance(wins: int, m: int) -> float:
        ways = logs[n] - logs[wins] - logs[m - wins] - logs[n - m]
        rest = (n - m) * math.log(1 - lost - won)
        return math.exp(ways + wins * math.log(won) + (m - wins) * math.log(lost) + rest)

    return chance


def _attainable(n: int, share: float, size: float) -> float:
    return _most(n, lambda wins, m: 2 * float(binom.pmf(m, n, share) * binom.pmf(wins, m, 0.5)), size)


def _most(n: int, worth: Callable[[int, int], float], size: float) -> float:
    """The largest total worth of outcomes that a two-sided test of this size may reject, by integer programming.

    Over all tests without a coin whose rejections are monotone: more wins, or fewer losses, are never less evidence.
    """
    outcomes = [(wins, m) for m in range(1, n + 1) for wins in range(m // 2 + 1, m + 1)]
    place = {outcome: number for number, outcome in enumerate(outcomes)}
    share_G = np.linspace(0.3 / n, 1, 160)
    chance_GM = binom.pmf(np.arange(n + 1), n, share_G[:, None])
    cost_GP = chance_GM[:, [m for _, m in outcomes]] * np.array([2 * binom.pmf(w, m, 0.5) for w, m in outcomes])
    links = [
        (number, place[further])
        for (wins, m), number in place.items()
        for further in ((wins + 1, m + 1), (wins, m - 1))
        if further in place
    ]
    rows = np.repeat(np.arange(len(links)), 2)
    signs = np.tile([1.0, -1.0], len(links))
    order = csr_matrix((signs, (rows, np.array(links).ravel())), shape=(len(links), len(outcomes)))
    found = milp(
        [-worth(*outcome) for outcome in outcomes],
        constraints=[LinearConstraint(cost_GP, -np.inf, size), LinearConstraint(order, -np.inf, 0)],
        integrality=np.ones(len(outcomes)),
        bounds=Bounds(0, 1),
        options={"time_limit": 60},
    )
    return -float(found.mip_dual_bound)


def repeats() -> list[Row]:
    """Several answers to each item, nothing to find: averaged within the item, and taken for independent."""
    rows = []
    reps = 5 * REPS
    for items, times in ((100, 10), (50, 10), (30, 5)):
        rng = np.random.default_rng([items, times])
        owner = np.repeat(np.arange(items), times)
        false = naive = 0
        for _ in range(reps):
            ability = rng.beta(1.5, 1, (2, items))
            scores = (rng.random((2, items * times)) < ability[:, owner]).astype(float)
            false += _differs(compare_paired(scores[0], scores[1], "binary", owner.tolist()))
            naive += abs((scores[1] - scores[0]).mean()) > 1.96 * (scores[1] - scores[0]).std() / math.sqrt(owner.size)
        rows.append(
            {
                "case": f"{items} items x {times} answers",
                "reps": reps,
                "false_percent": _percent(false / reps),
                "naive_percent": _percent(naive / reps),
            }
        )
    return rows


def _differs(result: PairedResult) -> bool:
    return result.ci_low > 0 or result.ci_high < 0


def _classified(rng: np.random.Generator, wanted: np.ndarray, skill: np.ndarray | float) -> np.ndarray:
    """(n, 9) statistics of macro-F1 of a system that knows a share `skill` of the answers and guesses the rest."""
    given = np.where(rng.random(wanted.size) < skill, wanted, rng.integers(0, SHAPES, wanted.size))
    one = np.eye(SHAPES)
    return np.concatenate([one[given] * one[wanted], one[given], one[wanted]], axis=1)


def _f1_pair(n: int, size: int, skills: tuple[float, float]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Two systems on n samples in groups of `size`, which are harder or easier together."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        wanted = rng.choice(SHAPES, n, p=[0.5, 0.3, 0.2])
        owner = np.repeat(np.arange(n // size), size)
        shift = rng.normal(0, 0.25, (2, n // size)) if size > 1 else np.zeros((2, n))
        rows = [_classified(rng, wanted, skill + shift[side][owner]) for side, skill in enumerate(skills)]
        return *rows, macro_f1_of_sums, owner.tolist() if size > 1 else None

    return draw


def _bleu_pair(n: int, hits: tuple[float, float]) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Two systems' n-gram statistics on n sentences of 8 to 24 words."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        length = rng.integers(8, 25, n)
        return *(_bleu_rows(rng, length, hit) for hit in hits), bleu_of_sums, None

    return draw


def _bleu_rows(rng: np.random.Generator, length: np.ndarray, hit: float) -> np.ndarray:
    given = np.maximum(length + rng.integers(-2, 3, length.size), 4)
    ability = np.clip(rng.normal(hit, 0.15, length.size), 0.05, 0.98)
    totals = given[:, None] - np.arange(4)
    matched = rng.binomial(totals, ability[:, None] ** np.arange(1, 5))
    return np.concatenate([matched, totals, given[:, None], length[:, None]], axis=1).astype(float)


def metrics() -> list[Row]:
    """Metrics that are no mean, by the bootstrap (jackknife under 60 units): nothing to find, a true gain covered."""
    cases = (
        ("macro-F1 n=40", _f1_pair(40, 1, (0.6, 0.6)), 0.0),
        ("macro-F1 n=200", _f1_pair(200, 1, (0.6, 0.6)), 0.0),
        ("macro-F1 n=200, good systems", _f1_pair(200, 1, (0.93, 0.93)), 0.0),
        ("macro-F1 clustered 30 x 10", _f1_pair(300, 10, (0.6, 0.6)), 0.0),
        ("macro-F1 clustered 80 x 4", _f1_pair(320, 4, (0.6, 0.6)), 0.0),
        ("BLEU n=100", _bleu_pair(100, (0.7, 0.7)), 0.0),
        ("macro-F1 n=200, 0.6 to 0.7", _f1_pair(200, 1, (0.6, 0.7)), None),
        ("macro-F1 clustered 80 x 4, 0.6 to 0.7", _f1_pair(320, 4, (0.6, 0.7)), None),
        ("BLEU n=100, 0.7 to 0.73", _bleu_pair(100, (0.7, 0.73)), None),
    )
    return [_metric(*case) for case in cases]


def _metric(case: str, draw: Callable[[np.random.Generator], tuple[Any, ...]], true: float | None) -> Row:
    rng = np.random.default_rng(list(case.encode()))
    if true is None:
        sums = [np.zeros(1), np.zeros(1)]
        for _ in range(3000):
            *rows, of_sums, _ = draw(rng)
            sums = [total + side.sum(axis=0) for total, side in zip(sums, rows, strict=True)]
        true = float(of_sums(sums[1][None])[0] - of_sums(sums[0][None])[0])
    found = covered = 0
    reps = MANY_REPS if true == 0 and case in OPEN else REPS
    for _ in range(reps):
        before, after, of_sums, groups = draw(rng)
        result = compare_paired_metric(before, after, of_sums, groups)
        found += _differs(result)
        covered += result.ci_low <= true <= result.ci_high
    row = {"case": case, "reps": reps, "coverage_percent": _percent(covered / reps)}
    return row | {("false_percent" if true == 0 else "power_percent"): _percent(found / reps)}


def coverage() -> list[Row]:
    """How often the 95 % intervals hold the truth: differences of 0/1 and graded scores, and one system alone."""
    rows = [_covered_binary(n, share, gap) for n in (30, 100, 500) for share, gap in ((0.1, 0.04), (0.3, 0.1))]
    rng = np.random.default_rng(9)
    for n in (30, 200):
        hits = 0
        for _ in range(REPS):
            base = rng.beta(2, 2, n)
            better = np.clip(base + rng.normal(0.05, 0.1, n), -0.5, 1.5)
            hits += _holds(compare_paired(base, better, "graded", score_range=(-0.5, 1.5)), 0.05)
        rows.append({"case": f"graded difference n={n}", "reps": REPS, "coverage_percent": _percent(hits / REPS)})
    for groups in (8, 20, 50):
        rows.append(_covered_groups(rng, groups))
    rows += _covered_alone(rng)
    return rows


def _holds(result: PairedResult, true: float) -> bool:
    return result.ci_low <= true <= result.ci_high


def _covered_binary(n: int, share: float, gap: float) -> Row:
    """By enumeration."""
    chance = _outcome(n, (share - gap) / 2, (share + gap) / 2)
    middle, reach = n * share, 6 * math.sqrt(n * share * (1 - share)) + 3
    total = 0.0
    for m in range(max(0, int(middle - reach)), min(n, int(middle + reach)) + 1):
        for won in range(m + 1):
            weight = chance(won, m)
            if weight > 1e-9:
                low, high = McNemar(m - won, won, n).interval(0.05)
                total += weight * (low <= gap <= high)
    return {"case": f"exact 0/1 n={n}, {share:.0%} differ, +{100 * gap:.0f}", "coverage_percent": _percent(total)}


def _covered_groups(rng: np.random.Generator, groups: int, size: int = 10) -> Row:
    owner, hits = np.repeat(np.arange(groups), size), 0
    for _ in range(REPS):
        apart = 0.02 + 0.1 * (rng.normal(0, math.sqrt(0.3), groups)[owner] + rng.normal(0, math.sqrt(0.7), owner.size))
        hits += _holds(compare_paired(0 * apart, apart, "graded", owner.tolist(), score_range=(-1, 1)), 0.02)
    return {"case": f"graded, {groups} groups x {size}", "reps": REPS, "coverage_percent": _percent(hits / REPS)}


def _covered_alone(rng: np.random.Generator) -> list[Row]:
    rows = []
    for n, rate in ((30, 0.7), (100, 0.9), (500, 0.95)):
        inside = [wilson(k, n).low <= rate <= wilson(k, n).high for k in range(n + 1)]
        covered = float(binom.pmf(np.arange(n + 1), n, rate) @ np.array(inside, dtype=float))
        rows.append({"case": f"exact rate {rate} n={n} (Wilson)", "coverage_percent": _percent(covered)})
    for n in (30, 200):
        found = (t_mean(rng.beta(2, 1, n)) for _ in range(REPS))
        hits = sum(one.low <= 2 / 3 <= one.high for one in found)
        rows.append({"case": f"graded mean n={n} (t)", "reps": REPS, "coverage_percent": _percent(hits / REPS)})
    wanted = rng.choice(SHAPES, 400_000, p=[0.5, 0.3, 0.2])
    true = float(macro_f1_of_sums(_classified(rng, wanted, 0.6).sum(axis=0)[None])[0])
    of_sums: MetricOfSums = macro_f1_of_sums
    for n in (60, 200):
        hits = 0
        for _ in range(REPS):
            one = bca_interval(_classified(rng, rng.choice(SHAPES, n, p=[0.5, 0.3, 0.2]), 0.6), of_sums)
            hits += one.low <= true <= one.high
        rows.append({"case": f"macro-F1 alone n={n} (BCa)", "reps": REPS, "coverage_percent": _percent(hits / REPS)})
    return rows


def cross_fit() -> list[Row]:
    """Few data: ridge regression trained K times against a rule that is as good on average, and against a worse one."""
    return [_fitted(*case) for case in ((60, 5), (100, 5), (100, 10), (200, 10), (500, 10))]


WIDTH = 20
TRUTH = np.concatenate([[1.2, 0.8, -0.8, 0.5], np.zeros(WIDTH - 4)])


def _drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    inputs = rng.standard_normal((n, WIDTH))
    return inputs, np.where(rng.random(n) < 1 / (1 + np.exp(-inputs @ TRUTH)), 1.0, -1.0)


def _learned(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.linalg.solve(inputs.T @ inputs + 2 * np.eye(WIDTH), inputs.T @ labels)
    return weights


def _rule(rng: np.random.Generator, inputs: np.ndarray, labels: np.ndarray, rate: float) -> np.ndarray:
    """A fixed rule that is right on a share `rate` of these samples, those that the learners' own rate was taken on."""
    off, low, high = rng.standard_normal(WIDTH), 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        is_better = (np.sign(inputs @ (TRUTH + middle * off)) == labels).mean() > rate
        low, high = (middle, high) if is_better else (low, middle)
    rule: np.ndarray = TRUTH + low * off
    return rule


def _fitted(n: int, num_folds: int) -> Row:
    rng = np.random.default_rng([n, num_folds])
    many = _drawn(rng, 60_000)
    learners = [_learned(*_drawn(rng, n - n // num_folds)) for _ in range(2000)]
    rate = float(np.mean([(np.sign(many[0] @ one) == many[1]).mean() for one in learners]))
    equal, worse = _rule(rng, *many, rate), _rule(rng, *many, rate - 0.12)
    folds = np.arange(n) % num_folds
    tenth = slice(0, max(1, n // 10))
    hits = dict.fromkeys(("false", "false_better", "items_alone", "power", "power_of_a_tenth"), 0)
    for _ in range(REPS):
        inputs, labels = _drawn(rng, n)
        ours = np.zeros(n)
        for fold in range(num_folds):
            held = folds == fold
            ours[held] = np.sign(inputs[held] @ _learned(inputs[~held], labels[~held])) == labels[held]
        theirs, poor = ((np.sign(inputs @ rule) == labels).astype(float) for rule in (equal, worse))
        result = compare_cross_fitted(theirs, ours, folds.tolist())
        hits["false"] += _differs(result)
        hits["false_better"] += verdict(result).value == "better"
        hits["items_alone"] += _differs(compare_paired(theirs, ours))
        hits["power"] += _differs(compare_cross_fitted(poor, ours, folds.tolist()))
        hits["power_of_a_tenth"] += _differs(compare_paired(poor[tenth], ours[tenth]))
    row: Row = {"case": f"cross-fitted n={n}, {num_folds} parts", "reps": REPS}
    return row | {f"{name}_percent": _percent(count / REPS) for name, count in hits.items()}
