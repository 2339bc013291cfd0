"""Holm's correction by hand and at the edges."""

# SPDX-License-Identifier: Apache-2.0
import pytest

from foretune.errors import ScoreError
from foretune.stats.multiplicity import holm


def test_holm_by_hand():
    # sorted 0.01 x4, 0.02 x3, 0.03 x2, 0.04 x1, made monotone
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stops_at_one():
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])


def test_holm_of_one_and_of_none():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("bad", [float("nan"), 1.2, -0.1])
def test_holm_refuses(bad):
    with pytest.raises(ScoreError, match="p-value score of row 1"):
        holm([0.1, bad])
