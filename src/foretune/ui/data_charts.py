"""Charts of data: lengths with the cut-off line, two distributions side by side, and the map of two data sets."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from foretune.ui.charts import Scale, bar, dot, line, round_step, scale_of, svg, text

__all__ = ["MapDot", "dot_map", "length_chart", "share_pair", "size_bar", "two_distributions"]

CHART_HEIGHT, MAP_HEIGHT = 170, 460  # pixels
NUM_TICKS = 5
EDGE = (1.5, 98.5)  # per cent of the map that dots keep to
RANK_WEIGHT = 0.6  # of the rank among all rows in a place on the map
MARK_ROOM = (7.0, 6.0)  # per cent of width and height that a mark takes on a narrow screen


class MapDot(NamedTuple):
    """One row on the map; `name` is its class, `title` what is read when pointed at."""

    x: float
    y: float
    name: str
    title: str


def length_chart(counts: Sequence[int], edges: Sequence[float], unit: str, limit: int, label: str) -> Markup:
    """Rows by length; the last bin also holds what is longer. `limit` draws the line where training cuts, 0 = none."""
    x, y = _axes(edges, max(counts, default=0), limit)
    bars = [
        _column(x, y, edges[index], edges[index + 1], count, "fill tuned", f"{count:,} rows: {span} {unit}")
        for index, count in enumerate(counts)
        if count
        for span in [_span(edges, index)]
    ]
    cut = _limit_line(x, limit, unit) if limit and limit <= x.high else ()
    return svg(CHART_HEIGHT, label, *_frame(x, y), *bars, *cut, name="columns")


def two_distributions(
    first: Sequence[int], second: Sequence[int], edges: Sequence[float], names: tuple[str, str], label: str
) -> Markup:
    """Shares of two sides in common bins, in per cent of each side: bars for the first, a stepped line for the second.

    The first is drawn in grey, the second in colour.
    """
    shares = [[100 * count / (sum(counts) or 1) for count in counts] for counts in (first, second)]
    x, y = _axes(edges, max([*shares[0], *shares[1], 1.0]), 0)
    parts = []
    for side, name in zip((0, 1), ("fill zero", "fill tuned"), strict=True):
        for index, share in enumerate(shares[side]):
            if share:
                width = (edges[index + 1] - edges[index]) / 2
                start = edges[index] + side * width
                title = f"{names[side]}: {share:.1f} % with {_span(edges, index)}"
                parts.append(_column(x, y, start, start + width, share, name, title))
    return svg(CHART_HEIGHT, label, *_frame(x, y, " %"), *parts, name="columns")


def _axes(edges: Sequence[float], most: float, limit: int) -> tuple[Scale, Scale]:
    last = max(float(edges[-1]) if edges else 1.0, min(float(limit), 1.05 * float(edges[-1])) if edges else 1.0)
    return Scale(0.0, last, round_step(last / NUM_TICKS)), scale_of(0.0, max(float(most), 1.0), 3)


def _span(edges: Sequence[float], index: int) -> str:
    """`12 to 24`, and `240 or more` for the last bin."""
    digits = ".1f" if edges[-1] <= 3 else ",.0f"
    if index == len(edges) - 2:
        return f"{edges[index]:{digits}} or more"
    return f"{edges[index]:{digits}} to {edges[index + 1]:{digits}}"


def _column(x: Scale, y: Scale, start: float, end: float, value: float, name: str, title: str) -> Markup:
    left, width = x.at(start), x.at(end) - x.at(start)
    height = max(0.6, y.at(value))  # a single row among thousands still shows
    return bar(round(left + 0.08 * width, 3), 0.84 * width, round(100 - height, 3), round(height, 3), name, title)


def _frame(x: Scale, y: Scale, unit: str = "") -> Iterable[Markup]:
    for value in y.ticks:
        place = round(100 - y.at(value), 3)
        yield line(0, place, 100, place, "base" if value == 0 else "grid")
        yield text(0, place, f"{value:,g}{unit}", "tick end", dx=-8, dy=4)
    for value in x.ticks:
        yield text(x.at(value), 100, f"{value:,g}", "tick middle", dy=19)


def _limit_line(x: Scale, limit: int, unit: str) -> Iterable[Markup]:
    place = x.at(limit)
    side, dx = ("tick limit end", -7) if place > 55 else ("tick limit start", 7)
    yield line(place, 0, place, 100, "limit")
    yield text(place, "12", f"cut at {limit:,} {unit}", side, dx=dx)


def size_bar(share: float, largest: float, name: str, label: str) -> Markup:
    """One value as a bar, in the scale of the largest one beside it."""
    width = 100 * share / largest if largest > 0 else 0.0
    return svg(10, label, bar(0, 100, "0", "10", "rail"), bar(0, max(width, 0.8 if share else 0.0), "0", "10", name))


def share_pair(first: float, second: float, largest: float, label: str) -> Markup:
    """Two shares of one thing, the first above the second, in the scale of the largest share on the page."""
    widths = [max(100 * share / (largest or 1.0), 0.5 if share else 0.0) for share in (first, second)]
    return svg(
        24,
        label,
        bar(0, widths[0], "0", "10", "fill tuned", f"production {100 * first:.1f} %"),
        bar(0, widths[1], "13", "10", "fill zero", f"training {100 * second:.1f} %"),
    )


def dot_map(dots: Sequence[MapDot], marks: Sequence[tuple[float, float, str, str]], label: str) -> Markup:
    """Rows as dots on two dimensions without units; `marks` are (x, y, number, title) of what is named.

    Places are a blend of value and rank, so that dense parts are stretched and one far row does not shrink the rest.
    """
    axes = [sorted(values) or [0.0] for values in ([d.x for d in dots], [d.y for d in dots])]

    def place(x: float, y: float) -> tuple[float, float]:
        return _spread(x, axes[0]), round(100 - _spread(y, axes[1]), 1)

    parts = [dot(*place(point.x, point.y), 3.2, point.name, point.title) for point in dots]
    taken: list[tuple[float, float]] = []
    for x, y, number, title in marks:
        left, top = _free(place(x, y), taken)
        taken.append((left, top))
        parts += [dot(left, top, 12, "badge", title), text(left, top, number, "badge middle", dy=5)]
    return svg(MAP_HEIGHT, label, *parts, name="map")


def _spread(value: float, ranked: Sequence[float]) -> float:
    """The place of a value among all, in per cent."""
    width = ranked[-1] - ranked[0] or 1.0
    rank = (bisect_left(ranked, value) + bisect_right(ranked, value)) / (2 * len(ranked))
    share = RANK_WEIGHT * rank + (1 - RANK_WEIGHT) * (value - ranked[0]) / width
    return round(EDGE[0] + (EDGE[1] - EDGE[0]) * share, 1)


def _free(wanted: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The wanted place of a mark, moved down as long as it lies on another one."""
    left, top = wanted
    while any(abs(left - x) < MARK_ROOM[0] and abs(top - y) < MARK_ROOM[1] for x, y in taken):
        top = round(top + MARK_ROOM[1], 1)
    return left, top
