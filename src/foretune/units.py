"""Money, time and sizes as people read them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NewType

__all__ = ["GB", "GIB", "Bytes", "Seconds", "Usd", "show_bytes", "show_count", "show_range", "show_seconds", "show_usd"]

Seconds = NewType("Seconds", float)
Usd = NewType("Usd", float)
Bytes = NewType("Bytes", int)

GB = 1_000_000_000
GIB = 1 << 30


def show_seconds(seconds: float) -> str:
    """A duration in its two largest units: `0.4 s`, `58 s`, `4 min 10 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s" if total % 60 else f"{total // 60} min"
    if total < 86_400:
        minutes = total % 3600 // 60
        return f"{total // 3600} h {minutes} min" if minutes else f"{total // 3600} h"
    hours = total % 86_400 // 3600
    return f"{total // 86_400} d {hours} h" if hours else f"{total // 86_400} d"


def show_bytes(num_bytes: float) -> str:
    """A size in decimal units (GB = 1e9 bytes): `512 B`, `3.2 MB`, `16.1 GB`."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_usd(usd: float) -> str:
    """Dollars: whole cents from ten cents up, four decimals below."""
    return f"${usd:,.2f}" if usd == 0 or abs(usd) >= 0.1 else f"${usd:.4f}"


def show_count(count: float) -> str:
    """A count with a short unit: `812`, `12.3 k`, `3.2 M`, `7.0 B`."""
    size = float(count)
    for unit in ("", " k", " M", " B"):
        if abs(size) < 1000:
            return f"{size:.0f}" if not unit else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f} T"


def show_range(low: float, high: float) -> str:
    """A range of durations in one unit where both fit it: `58-71 s`, `4 min 10 s to 5 min`; `0.0 s` of equal ends."""
    if show_seconds(low) == show_seconds(high):
        return show_seconds(high)
    if high < 60:
        digits = 1 if high < 10 else 0
        return f"{low:.{digits}f}-{high:.{digits}f} s"
    return f"{show_seconds(low)} to {show_seconds(high)}"
