"""Two systems' 0/1 scores of the same samples: an exact test that is not timid where few differ, and its interval."""

# SPDX-License-Identifier: Apache-2.0
#
# Given how many samples differ (m), the sign test can only reach a few levels: of 3 differences none is significant.
# McNemar's exact and mid-p tests are sign tests, so where few samples differ they are far under their level (n = 50 at
# a rate of .95: 0.9 to 2.3 % false alarms for 5). The unconditional test takes m as random, as it is, and reaches 3 %
# from three expected differences on. Below that no test can: 3 to 0 alone comes up in 5.6 % of comparisons of equals.
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from foretune.stats.power import Spread

__all__ = ["McNemar", "mcnemar_mid_p", "tango", "unconditional_p"]

MOST_EXACT = 1000  # samples up to which the unconditional test is computed; beyond it mid-p is the same in effect
GAMMA = 5e-4  # confidence spent on where the share of differing samples lies
SMALL_P = 1e-3  # below it the conditional test is shown, for GAMMA is a floor under the other
GRID = 257
JUST_BEYOND_0 = 1e-9


def mcnemar_mid_p(lost: int, won: int) -> float:
    """Two-sided mid-p of McNemar's test: 2 P(X <= min) - P(X = min), X ~ Binomial(lost + won, 1/2).

    `lost`: samples that only the baseline got right; `won`: only the candidate (Fagerland et al. 2013).
    """
    from scipy.special import bdtr

    fewer, discordant = min(lost, won), lost + won
    below = float(bdtr(fewer - 1, discordant, 0.5)) if fewer else 0.0
    return min(1.0, float(bdtr(fewer, discordant, 0.5)) + below)


@lru_cache(maxsize=4096)
def unconditional_p(fewer: int, more: int, n: int) -> float:
    """Two-sided p of the exact unconditional McNemar test: sup over psi of P(|Z| >= |z seen|), plus gamma.

    Z = (won - lost) / sqrt(won + lost) of n pairs that differ with probability psi, either way alike (Suissa and
    Shuster 1991); psi ranges over its exact 99.95 % interval (Berger and Boos 1994, gamma = .0005).
    """
    from scipy.special import bdtr, betaincinv, gammaln, xlog1py, xlogy

    differing = fewer + more
    if more == fewer:
        return 1.0
    low = float(betaincinv(differing, n - differing + 1, GAMMA / 2))
    high = float(betaincinv(differing + 1, n - differing, 1 - GAMMA / 2)) if differing < n else 1.0
    psi_G = np.linspace(low, high, GRID)[:, None]
    m = np.arange(1, n + 1)
    bound = np.ceil((m + (more - fewer) / math.sqrt(differing) * np.sqrt(m)) / 2 - 1e-9)  # fewest wins as far out
    beyond = np.where(bound <= m, 2 * bdtr(np.maximum(m - bound, 0), m, 0.5), 0.0)
    logs = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1) + xlogy(m, psi_G) + xlog1py(n - m, -psi_G)
    return min(1.0, float((np.exp(logs) @ beyond).max()) + GAMMA)


def tango(lost: int, won: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Score interval for the paired difference of rates (won - lost) / n: every difference with |z| <= z_(1-alpha/2).

    z(d) = (won - lost - n d) / sqrt(n (2 q + d (1 - d))) with q = P(lost) at its likeliest for that d (Tango 1998).
    """
    from scipy.special import ndtri

    limit, seen = -float(ndtri(alpha / 2)), (won - lost) / n
    low = _first(lambda difference: _score(lost, won, n, difference) <= limit, -1.0, seen)
    high = -_first(lambda difference: _score(lost, won, n, -difference) >= -limit, -1.0, -seen)
    return low, high


def _score(lost: int, won: int, n: int, difference: float) -> float:
    """z of the difference supposed."""
    linear = (2 * n - won + lost) * difference - lost - won
    root = math.sqrt(max(linear * linear + 8 * n * lost * difference * (1 - difference), 0.0))
    variance = n * ((root - linear) / (2 * n) + difference * (1 - difference))
    gap = won - lost - n * difference
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0


def _first(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest value of low..high that `holds`, which is monotone and holds at `high`."""
    if holds(low):
        return low
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class McNemar:
    """0/1 scores of independent samples. The interval leaves 0 out exactly where the test finds a difference.

    Its end is Tango's, moved to 0 where the two disagree, which is rare and keeps the coverage: where the test rejects
    0, it rejects every difference on the other side of 0 as well.
    """

    lost: int
    won: int
    n: int
    min_units: int = 1

    @property
    def method(self) -> str:
        """Which test, which interval."""
        return f"McNemar {'exact unconditional' if self.n <= MOST_EXACT else 'mid-p'}, Tango interval"

    @property
    def value(self) -> float:
        """Difference of the two rates, fraction."""
        return (self.won - self.lost) / self.n

    @property
    def num_units(self) -> int:
        """Pairs."""
        return self.n

    @property
    def p_value(self) -> float:
        """Two-sided."""
        if self.n > MOST_EXACT:
            return mcnemar_mid_p(self.lost, self.won)
        exact = unconditional_p(min(self.lost, self.won), max(self.lost, self.won), self.n)
        return exact if exact > SMALL_P else min(exact, mcnemar_mid_p(self.lost, self.won))

    @property
    def spread(self) -> Spread:
        """Discordance; never under a pseudo-count in each cell, for 0 of n is not proof of 0."""
        return Spread("discordance", max((self.lost + self.won) / self.n, 2 / (self.n + 2)))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Tango's, of one mind with the test about 0."""
        low, high = tango(self.lost, self.won, self.n, alpha)
        is_found = self.p_value <= alpha
        if self.won > self.lost:
            low = max(low, JUST_BEYOND_0) if is_found else min(low, 0.0)
        elif self.won < self.lost:
            high = min(high, -JUST_BEYOND_0) if is_found else max(high, 0.0)
        return low, high
