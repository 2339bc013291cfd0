"""Small charts as inline SVG: sized by the page, coloured by its style sheet, every text escaped."""

# SPDX-License-Identifier: Apache-2.0
#
# Positions are in per cent of the drawing, so that one chart serves a phone and a wide screen with text of one size;
# only polylines stand in a nested, stretched drawing, with strokes that do not stretch.
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = [
    "Scale",
    "axis",
    "change_bar",
    "interval_bar",
    "loss_chart",
    "matrix_shades",
    "range_bar",
    "scale_of",
    "share_bar",
]

Point = tuple[float, float]
MOST_POINTS = 400  # a polyline with more is averaged down to this many


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high` with round ticks."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """The position of a value in per cent, kept within the axis."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 3)

    @property
    def ticks(self) -> list[float]:
        """Round values from one end to the other."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [round(number * self.step, 12) for number in range(first, last + 1)]


def scale_of(low: float, high: float, num_ticks: int = 5) -> Scale:
    """A scale that covers low to high and ends on round ticks (steps of 1, 2 or 5 times a power of ten)."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = round_step((high - low) / num_ticks)
    return Scale(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)


def round_step(rough: float) -> float:
    """The next larger of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def svg(height: int, label: str, *parts: str | Markup, name: str = "") -> Markup:
    """A drawing as wide as its place and `height` pixels high; `label` is read aloud instead of it."""
    return Markup('<svg class="chart {}" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        name, height, label, Markup("").join(parts)
    )


def line(x1: float, y1: float | str, x2: float, y2: float | str, name: str) -> Markup:
    """A line; x in per cent, y in per cent or as text with a unit."""
    return Markup('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>').format(name, x1, _y(y1), x2, _y(y2))


def dot(x: float, y: float | str, radius: float, name: str, title: str = "") -> Markup:
    """A dot with a tooltip."""
    return Markup('<circle class="{}" cx="{}%" cy="{}" r="{}">{}</circle>').format(
        name, x, _y(y), radius, _title(title)
    )


def bar(x: float, width: float, y: float | str, height: float | str, name: str, title: str = "") -> Markup:
    """A rectangle with a tooltip; x and width in per cent."""
    return Markup('<rect class="{}" x="{}%" width="{}%" y="{}" height="{}" rx="3">{}</rect>').format(
        name, x, max(0.0, round(width, 3)), _y(y), _y(height), _title(title)
    )


def text(x: float, y: float | str, words: str, name: str, dx: int = 0, dy: int = 0) -> Markup:
    """A word at a place, moved by dx, dy pixels."""
    return Markup('<text class="{}" x="{}%" y="{}" dx="{}" dy="{}">{}</text>').format(name, x, _y(y), dx, dy, words)


def _y(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value}%"


def _title(title: str) -> Markup:
    return Markup("<title>{}</title>").format(title) if title else Markup("")


def interval_bar(scale: Scale, low: float, value: float, high: float, name: str, label: str) -> Markup:
    """One row of a forest plot: the interval as a line with ends, the value as a dot, over the scale's grid."""
    left, right = scale.at(low), scale.at(high)
    return svg(
        44,
        label,
        *(line(scale.at(tick), 0, scale.at(tick), 100, "grid") for tick in scale.ticks),
        line(left, 50, right, 50, f"interval {name}"),
        line(left, "15", left, "29", f"interval {name}"),
        line(right, "15", right, "29", f"interval {name}"),
        dot(scale.at(value), 50, 7, f"fill {name}", label),
    )


def axis(scale: Scale, labels: Sequence[str]) -> Markup:
    """The ticks below a forest plot."""
    names = ["tick start", *["tick middle"] * (len(labels) - 2), "tick end"]
    words = zip(scale.ticks, labels, names, strict=True)
    return svg(22, "scale", *(text(scale.at(tick), "15", label, name) for tick, label, name in words), name="axis")


def range_bar(low: float, expected: float, high: float, actual: float | None, held: bool | None, label: str) -> Markup:
    """A predicted interval as a band with its expected value, and what happened as a dot."""
    ends = [low, high] if actual is None else [low, high, actual]
    room = 0.12 * ((max(ends) - min(ends)) or abs(high) or 1.0)
    scale = Scale(min(ends) - room, max(ends) + room, 1.0)
    parts = [
        line(0, 50, 100, 50, "track"),
        bar(scale.at(low), scale.at(high) - scale.at(low), "8", "10", "band"),
        line(scale.at(expected), "8", scale.at(expected), "18", "expected"),
    ]
    if actual is not None:
        parts.append(dot(scale.at(actual), 50, 6, f"fill {'held' if held else 'missed'}", label))
    return svg(26, label, *parts)


def change_bar(scale: Scale, before: float, after: float, name: str, label: str) -> Markup:
    """From a hollow dot (before) to a full one (after)."""
    return svg(
        34,
        label,
        *(line(scale.at(tick), 0, scale.at(tick), 100, "grid") for tick in scale.ticks),
        line(scale.at(before), 50, scale.at(after), 50, f"interval {name}"),
        dot(scale.at(before), 50, 5.5, "hollow", label),
        dot(scale.at(after), 50, 6, f"fill {name}", label),
    )


def share_bar(shares: Sequence[tuple[float, str, str]], label: str) -> Markup:
    """A bar cut into shares of the whole; each is (count, class, tooltip)."""
    total = sum(count for count, _, _ in shares) or 1.0
    parts, x = [], 0.0
    for count, name, title in shares:
        width = 100 * count / total
        if width:
            parts.append(bar(round(x, 3), max(0.2, width - 0.4), "0", "18", f"fill {name}", title))
        x += width
    return svg(18, label, *parts)


def averaged(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points, each the mean of a group of neighbours."""
    size = math.ceil(len(points) / most) or 1
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """Each point averaged with its neighbours over a fifteenth of the curve."""
    half = max(1, len(points) // 30)
    result = []
    for index, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, index - half) : index + half + 1]]
        result.append((x, sum(near) / len(near)))
    return result


def loss_chart(train: Sequence[Point], validation: Sequence[Point], best_step: int | None, label: str) -> Markup:
    """Training loss (each step faint, running mean bold) and validation loss over steps, the best step marked."""
    train = [point for point in train if math.isfinite(point[1])]
    validation = [point for point in validation if math.isfinite(point[1])]
    smooth = running_mean(train) if len(train) > 20 else list(train)
    x, y = _loss_scales(train, smooth, validation)
    curves = [
        _polyline(averaged(train), x, y, "curve train faint") if len(train) > 20 else "",
        _polyline(averaged(smooth), x, y, "curve train"),
        _polyline(validation, x, y, "curve validation"),
    ]
    stretched = Markup(
        '<svg x="0" y="0" width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{}</svg>'
    ).format(Markup("").join(curves))
    dots = (_curve_dot(step, loss, x, y, step == best_step) for step, loss in validation)
    return svg(300, label, *_grid(x, y), _best_line(best_step, x), stretched, *dots, name="loss")


def _loss_scales(train: Sequence[Point], smooth: Sequence[Point], validation: Sequence[Point]) -> tuple[Scale, Scale]:
    shown = [loss for _, loss in (*smooth, *validation)] or [1.0]
    top = min(max([loss for _, loss in train], default=0.0), 1.5 * max(shown))
    high = max(max(shown), top)
    low = 0.0 if min(shown) < 0.5 * high else min(shown) - 0.05 * high
    last = max([step for step, _ in (*train, *validation)], default=1.0)
    return Scale(0, max(last, 1.0), round_step(max(last, 1.0) / 7)), scale_of(low, high)


def _grid(x: Scale, y: Scale) -> Iterable[Markup]:
    for value in y.ticks:
        yield line(0, round(100 - y.at(value), 3), 100, round(100 - y.at(value), 3), "grid")
        yield text(0, round(100 - y.at(value), 3), f"{value:g}", "tick end", dx=-8, dy=4)
    for step in x.ticks:
        yield text(x.at(step), 100, f"{step:,.0f}", "tick middle", dy=20)


def _best_line(best_step: int | None, x: Scale) -> Markup:
    if best_step is None:
        return Markup("")
    place = x.at(best_step)
    name, dx = ("tick best end", -7) if place > 70 else ("tick best start", 7)
    return line(place, 0, place, 100, "best") + text(place, "12", f"best: step {best_step:,}", name, dx=dx)


def _curve_dot(step: float, loss: float, x: Scale, y: Scale, is_best: bool) -> Markup:
    title = f"step {step:,.0f}: validation loss {loss:.4g}"
    name = "fill validation best-dot" if is_best else "fill validation"
    return dot(x.at(step), round(100 - y.at(loss), 3), 6 if is_best else 3.5, name, title)


def _polyline(points: Sequence[Point], x: Scale, y: Scale, name: str) -> Markup:
    """A curve in a drawing of 100 by 100; what lies beyond the axis is cut at its edge."""
    places = [f"{x.at(step)},{round(100 - y.at(loss), 3)}" for step, loss in points]
    return (
        Markup('<polyline class="{}" points="{}"/>').format(name, " ".join(places)) if len(places) > 1 else Markup("")
    )


def matrix_shades(counts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Each count as a share of its row, for the shade of a cell."""
    return [[count / (sum(row) or 1) for count in row] for row in counts]
