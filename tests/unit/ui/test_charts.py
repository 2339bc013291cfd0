"""Charts put values where they belong, stay within their frame, and survive odd input."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import re

import pytest

from foretune.ui.charts import (
    Scale,
    averaged,
    axis,
    change_bar,
    interval_bar,
    loss_chart,
    range_bar,
    round_step,
    scale_of,
    share_bar,
)
from foretune.ui.data_charts import length_chart, share_pair, size_bar, two_distributions


@pytest.mark.parametrize(("rough", "step"), [(0.07, 0.1), (0.2, 0.2), (21, 50), (1.01, 2), (4e-4, 5e-4)])
def test_steps_are_round(rough: float, step: float) -> None:
    assert round_step(rough) == pytest.approx(step)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 2.31), (10.3, 47.6), (0.02, 0.021), (5.0, 5.0), (-1.0, 1.0), (0.0, 0.0)]
)
def test_scales_cover_their_values_and_end_on_ticks(low: float, high: float) -> None:
    scale = scale_of(low, high)
    assert scale.low <= low and scale.high >= high and scale.high > scale.low
    assert scale.ticks[0] == pytest.approx(scale.low) and scale.ticks[-1] == pytest.approx(scale.high)
    assert 2 <= len(scale.ticks) <= 8


def test_positions_are_in_per_cent_and_stay_inside() -> None:
    scale = Scale(0, 1, 0.2)
    assert [scale.at(value) for value in (-1, 0, 0.31, 1, 7)] == [0, 0, 31, 100, 100]
    bar = interval_bar(scale, 0.24, 0.31, 0.38, "prompted", "Base 31 %")
    assert 'cx="31.0%"' in bar and 'x1="24.0%"' in bar and 'x2="38.0%"' in bar
    assert axis(scale, ["0", "20", "40", "60", "80", "100"]).count("<text") == 6


def test_a_range_shows_band_and_what_happened() -> None:
    held = range_bar(58, 64, 71, 66, True, "label")
    assert held.count("<circle") == 1 and "held" in held
    assert "<circle" not in range_bar(58, 64, 71, None, None, "label")
    assert "NaN" not in range_bar(0, 0, 0, 0.0, True, "label") and "nan" not in range_bar(0, 0, 0, 0.0, True, "label")


def test_labels_are_escaped() -> None:
    for chart in (
        range_bar(1, 2, 3, 2, True, "<b>"),
        change_bar(Scale(0, 1, 0.2), 0.1, 0.2, "lost", "<b>"),
        share_bar([(1, "mended", "<b>")], "<b>"),
        length_chart([1, 2], [0, 5, 10], "<b>", 7, "<b>"),
        two_distributions([1, 2], [2, 1], [0, 1, 2], ("<b>", "<b>"), "<b>"),
        size_bar(0.5, 1.0, "fill tuned", "<b>"),
        share_pair(0.5, 0.1, 0.5, "<b>"),
        loss_chart([(1, 2.0)], [], None, "<b>"),
    ):
        assert "<b>" not in chart and "&lt;b&gt;" in chart


def test_shares_fill_the_bar() -> None:
    chart = share_bar([(30, "a", "x"), (0, "b", "y"), (70, "c", "z")], "label")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%" y=', chart)]
    assert len(widths) == 2 and sum(widths) == pytest.approx(99.2)
    assert share_bar([], "label").count("<rect") == 0


def test_loss_charts_survive_odd_curves() -> None:
    assert "<polyline" not in loss_chart([], [], None, "empty")
    broken = loss_chart([(1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)], [(4, math.nan)], None, "broken")
    assert "nan" not in broken and "inf" not in broken and broken.count("<polyline") == 1
    spiky = loss_chart([(step, 100.0 if step == 50 else 1.0) for step in range(1, 200)], [], None, "spiky")
    places = [float(y) for y in re.findall(r"[\d.]+,(-?[\d.]+)", spiky)]
    assert min(places) >= 0 and max(places) <= 100


def test_long_curves_are_averaged_down() -> None:
    points = [(float(n), float(n % 2)) for n in range(10_001)]
    few = averaged(points)
    assert len(few) <= 400 and few[0][0] < few[-1][0]
    assert all(0.4 < loss < 0.6 for _, loss in few[:-1])


def test_lengths_are_columns_with_the_line_where_training_cuts() -> None:
    chart = length_chart([5, 0, 1], [0, 10, 20, 30], "tokens", 25, "label")
    assert chart.count("<rect") == 2 and "cut at 25 tokens" in chart
    assert "5 rows: 0 to 10 tokens" in chart and "1 rows: 20 or more tokens" in chart
    heights = [float(height) for height in re.findall(r'height="([\d.]+)%" rx', chart)]
    assert max(heights) <= 100 and min(heights) > 0
    assert "cut at" not in length_chart([5, 1], [0, 10, 20], "tokens", 512, "label")  # far beyond the data
    assert "cut at" not in length_chart([5, 1], [0, 10, 20], "tokens", 0, "label")
    assert "<rect" not in length_chart([], [], "tokens", 0, "empty")


def test_two_distributions_are_shares_of_their_own_side() -> None:
    chart = two_distributions([1, 1], [30, 10], [0, 1, 2], ("training", "production"), "label")
    for words in ("training: 50.0 % with 0.0 to 1.0", "production: 75.0 % with 0.0 to 1.0", "production: 25.0 %"):
        assert words in chart
    assert "nan" not in two_distributions([], [], [0, 1], ("a", "b"), "label")
