"""Draws predicted against actual values as an SVG: panels side by side, both axes logarithmic, a colour a regime."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SIDE, LEFT, TOP, GAP, FOOT = 400, 76, 74, 104, 120
INK, FAINT, GRID, BAND = "#1f2933", "#5d6975", "#dfe4e9", "#e9eef3"
# Okabe and Ito's palette, told apart with any kind of colour vision; each with a shape of its own.
MARKS: dict[str, tuple[str, str]] = {
    "LoRA, 1 device": ("#0072b2", "circle"),
    "QLoRA, 1 device": ("#d55e00", "triangle"),
    "other adapters, 1 device": ("#009e73", "square"),
    "full, 1 device": ("#cc79a7", "diamond"),
    "fine-tuning, many devices": ("#8a6d00", "cross"),
    "pretraining": ("#56b4e9", "ring"),
}


class Panel(NamedTuple):
    """One scatter plot: points are (actual, predicted, regime)."""

    title: str
    across: str
    up: str
    points: Sequence[tuple[float, float, str]]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Writes the panels beside each other, with one legend."""
    width = len(panels) * (SIDE + GAP) + LEFT - GAP + 24
    height = TOP + SIDE + FOOT
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        "<title>Predicted against reported memory and time of public training runs</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="17" font-weight="600" fill="{INK}">'
        "Predicted against reported, by a fit that never saw the run's source</text>",
    ]
    for number, panel in enumerate(panels):
        body += _panel(panel, LEFT + number * (SIDE + GAP))
    body += _legend(panels, TOP + SIDE + 62, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*body, "</svg>"]) + "\n", encoding="utf-8")


def _panel(panel: Panel, left: float) -> Iterator[str]:
    values = [value for point in panel.points for value in point[:2]]
    low, high = math.log10(min(values)) - 0.06, math.log10(max(values)) + 0.06

    def place(value: float) -> float:
        return min(1.0, max(0.0, (math.log10(value) - low) / (high - low))) * SIDE

    bottom = TOP + SIDE
    yield f'<text x="{left}" y="{TOP - 14}" font-weight="600" fill="{INK}">{panel.title}</text>'
    yield from _band(left, bottom, math.log10(1.2) / (high - low) * SIDE)
    for value, label in _ticks(low, high):
        at = place(value)
        yield f'<path d="M{left + at:.1f} {TOP}V{bottom}M{left} {bottom - at:.1f}H{left + SIDE}" stroke="{GRID}"/>'
        yield f'<text x="{left + at:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{FAINT}">{label}</text>'
        yield f'<text x="{left - 7}" y="{bottom - at + 4:.1f}" text-anchor="end" fill="{FAINT}">{label}</text>'
    yield f'<path d="M{left} {bottom}L{left + SIDE} {TOP}" stroke="{FAINT}" stroke-dasharray="5 4"/>'
    middle = left + SIDE / 2
    yield f'<text x="{middle}" y="{bottom + 38}" text-anchor="middle" fill="{INK}">{panel.across}</text>'
    yield (
        f'<text transform="translate({left - 56} {TOP + SIDE / 2}) rotate(-90)" text-anchor="middle" fill="{INK}">'
        f"{panel.up}</text>"
    )
    counts = Counter(point[2] for point in panel.points)
    for regime in sorted(counts, key=lambda name: -counts[name]):
        colour, shape = MARKS[regime]
        yield f"<g {_paint(colour, shape)}>"
        for actual, predicted, _ in (point for point in panel.points if point[2] == regime):
            yield _mark(left + place(actual), bottom - place(predicted), shape)
        yield "</g>"
    yield f'<rect x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="{FAINT}"/>'


def _band(left: float, bottom: float, up: float) -> Iterator[str]:
    """Where predictions lie within 20 %."""
    down = up * math.log(0.8) / math.log(1.2)
    right, top = left + SIDE, bottom - SIDE
    corners = [(left, bottom), (left, bottom - up), (right - up, top), (right, top), (right, top - down)]
    corners.append((left - down, bottom))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    yield f'<polygon points="{path}" fill="{BAND}"/>'


def _ticks(low: float, high: float) -> Iterator[tuple[float, str]]:
    """1, 2 and 5 of each power of ten, or the powers alone on a long axis."""
    steps = (1, 2, 5) if high - low < 3 else (1,)
    for power in range(math.floor(low), math.ceil(high)):
        for step in steps:
            value = step * 10.0**power
            if low <= math.log10(value) <= high:
                yield value, f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _paint(colour: str, shape: str) -> str:
    """Half see-through, so that many points at one place show."""
    if shape in ("ring", "cross"):
        return f'fill="none" stroke="{colour}" stroke-opacity="0.8"'
    return f'fill="{colour}" fill-opacity="0.55"'


def _mark(x: float, y: float, shape: str, size: float = 3.4) -> str:
    """One point."""
    s = size
    if shape in ("circle", "ring"):
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s if shape == "circle" else s - 0.5:.1f}"/>'
    paths = {
        "triangle": f"M{x:.1f} {y - s:.1f}l{s} {1.8 * s:.1f}h{-2 * s}z",
        "square": f"M{x - s + 0.4:.1f} {y - s + 0.4:.1f}h{2 * s - 0.8:.1f}v{2 * s - 0.8:.1f}h{0.8 - 2 * s:.1f}z",
        "diamond": f"M{x:.1f} {y - s - 1:.1f}l{s + 1} {s + 1}l{-s - 1} {s + 1}l{-s - 1} {-s - 1}z",
        "cross": f"M{x - s:.1f} {y - s:.1f}l{2 * s} {2 * s}m0 {-2 * s}l{-2 * s} {2 * s}",
    }
    return f'<path d="{paths[shape]}"/>'


def _legend(panels: Sequence[Panel], top: float, width: float) -> Iterator[str]:
    counts = Counter(point[2] for panel in panels for point in panel.points)
    column = (width - LEFT) / 3
    for number, name in enumerate(name for name in MARKS if counts[name]):
        x, y = LEFT + number % 3 * column, top + number // 3 * 22
        colour, shape = MARKS[name]
        yield f"<g {_paint(colour, shape)}>{_mark(x + 4, y - 4, shape, 4.4)}</g>"
        yield f'<text x="{x + 16}" y="{y}" fill="{INK}">{name}</text>'
    yield (
        f'<text x="{LEFT}" y="{top + 46}" fill="{FAINT}" font-size="12">Grey band: within 20 %. '
        "Dashed: exact. Above it the prediction is too large.</text>"
    )
