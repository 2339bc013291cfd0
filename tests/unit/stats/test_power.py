"""Power: the published tables, and that both directions agree."""

# SPDX-License-Identifier: Apache-2.0
import pytest

from foretune.errors import ScoreError
from foretune.stats.power import Spread, samples_for_noninferiority, samples_needed, visible_difference


@pytest.mark.parametrize(
    ("discordance", "difference", "n"),
    [
        (0.10, 0.02, 1960),
        (0.10, 0.03, 870),
        (0.10, 0.05, 312),
        (0.10, 0.08, 121),
        (0.20, 0.02, 3923),
        (0.20, 0.03, 1742),
        (0.20, 0.05, 626),
        (0.20, 0.08, 243),
        (0.20, 0.10, 155),
        (0.30, 0.02, 5885),
        (0.30, 0.05, 940),
        (0.30, 0.10, 234),
    ],
)
def test_binary_samples_needed(discordance, difference, n):
    assert samples_needed(Spread("discordance", discordance), difference) == pytest.approx(n, abs=1)
    assert samples_needed(Spread("discordance", discordance), -difference) == pytest.approx(n, abs=1)


@pytest.mark.parametrize(("n", "difference"), [(50, 0.177), (100, 0.125), (200, 0.089), (500, 0.056), (1000, 0.040)])
def test_visible_difference_at_a_fifth_discordant(n, difference):
    assert visible_difference(Spread("discordance", 0.2), n) == pytest.approx(difference, abs=5e-4)


@pytest.mark.parametrize("kind", ["discordance", "variance"])
def test_both_directions_agree(kind):
    spread = Spread(kind, 0.2)
    difference = visible_difference(spread, 400)
    assert samples_needed(spread, difference) == pytest.approx(400, rel=0.02)


def test_graded_samples_needed_by_hand():
    # (1.959964 + 0.841621)^2 0.04 / 0.05^2 = 125.6
    assert samples_needed(Spread("variance", 0.04), 0.05) == 126


def test_a_difference_needs_as_much_discordance():
    assert samples_needed(Spread("discordance", 0.01), 0.1) == samples_needed(Spread("discordance", 0.1), 0.1)


def test_no_difference_is_never_shown():
    assert samples_needed(Spread("variance", 0.04), 0.0) is None


def test_noninferiority_samples():
    # 6.18 psi / m^2
    assert samples_for_noninferiority(Spread("discordance", 0.12), 0.03) == pytest.approx(
        6.1826 * 0.12 / 0.03**2, abs=1
    )


def test_more_certainty_needs_more_samples():
    spread = Spread("discordance", 0.2)
    assert samples_needed(spread, 0.05, alpha=0.01) > samples_needed(spread, 0.05)
    assert samples_needed(spread, 0.05, power=0.9) > samples_needed(spread, 0.05)


def test_refuses():
    with pytest.raises(ScoreError):
        visible_difference(Spread("variance", 0.1), 0)
    with pytest.raises(ScoreError):
        samples_for_noninferiority(Spread("variance", 0.1), 0.0)
