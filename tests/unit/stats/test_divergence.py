"""Jensen-Shannon divergence and PSI: known values, symmetry, and what is no distribution."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from foretune.stats.divergence import jensen_shannon, population_stability

COUNTS = st.lists(st.integers(1, 1000), min_size=3, max_size=3)


@given(COUNTS, COUNTS)
def test_jensen_shannon_is_scipys_distance_squared(first: list[int], second: list[int]) -> None:
    ours = jensen_shannon(first, second)
    assert ours == pytest.approx(float(jensenshannon(first, second, base=2)) ** 2, abs=1e-9)
    assert ours == pytest.approx(jensen_shannon(second, first)) and 0 <= ours <= 1


def test_known_values() -> None:
    assert jensen_shannon([1, 1], [5, 5]) == 0.0 and jensen_shannon([3, 0], [0, 7]) == 1.0
    expected = 0.1 * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert population_stability([600_000, 400_000], [500_000, 500_000]) == pytest.approx(expected, rel=1e-4)
    assert population_stability([10, 0], [5, 5]) > 0.2 and population_stability([4, 6], [4, 6]) == 0.0


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2], [1, 2, 3]])
def test_what_is_no_distribution_is_refused(bad: list[int]) -> None:
    for function in (jensen_shannon, population_stability):
        with pytest.raises(ValueError, match="expected"):
            function(bad, [1, 1])
