"""A sweep as a table: what each setting was, how far it came and its validation loss at each rung."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from foretune.cli.face import Answer
from foretune.records.sweep import SettingResult, SweepRecord
from foretune.units import show_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["sweep_shown", "with_sweep"]

STYLES = {"winner": "bold green", "failed": "red", "stopped": "dim"}


def with_sweep(answer: Answer, run_dir: Path) -> Answer:
    """The answer with the sweep of the run first, where the run is one."""
    if not SweepRecord.exists(run_dir):
        return answer
    record = SweepRecord.read(run_dir)
    document = {**answer.document, "sweep": record.as_dict()}
    return replace(answer, document=document, shown=[*sweep_shown(record), "", *answer.shown])


def sweep_shown(record: SweepRecord) -> list[RenderableType]:
    """The settings, best first, and what the halving saved."""
    from foretune.cli.show import plain_table

    rungs = [f">rung {number}" for number in range(1, len(record.rung_sizes) + 1)]
    table = plain_table("setting", ">steps", *rungs, "", ">took")
    for one in sorted(record.settings, key=_order):
        losses = [f"{loss:.4f}" for loss in one.eval_losses]
        cells = [*losses, *[""] * (len(rungs) - len(losses))]
        style = STYLES.get(one.state, "")
        table.add_row(_values(one.values), f"{one.step:,}", *cells, one.state, _took(one), style=style)
    lines: list[RenderableType] = [table]
    planned = sum(one.planned_steps for one in record.settings)
    if record.state == "done" and planned:
        lines.append(f"[dim]{record.num_steps:,} steps in {show_seconds(record.seconds)}, one loaded base[/]")
    lines += [f"setting {one.number} failed: {escape(one.why)}" for one in record.settings if one.state == "failed"]
    if record.state == "budget":
        lines.append("the budget ended the sweep; the best setting so far was kept")
    return [*lines, *_at_an_end(record.settings)]


def _at_an_end(settings: Sequence[SettingResult]) -> Iterator[str]:
    """A line on each number of the winner that is the least or the most of three or more tried."""
    winner = next((one for one in settings if one.state == "winner"), None)
    for name, best in winner.values.items() if winner is not None else ():
        tried = {one.values[name] for one in settings if isinstance(one.values[name], (int, float))}
        if len(tried) >= 3 and best in (min(tried), max(tried)):
            which, where = ("largest", "above") if best == max(tried) else ("smallest", "below")
            yield f"{_named(name)} {_short(best)} is the {which} tried: better ones may lie {where}"


def _order(one: SettingResult) -> tuple[int, float, int]:
    return -len(one.eval_losses), one.eval_losses[-1] if one.eval_losses else 0.0, one.number


def _took(one: SettingResult) -> str:
    return show_seconds(one.seconds) if one.seconds else ""


def _values(values: dict[str, Any]) -> str:
    return escape(", ".join(f"{_named(name)} {_short(value)}" for name, value in values.items()))


def _named(name: str) -> str:
    """The last part of a field's name, as short as a sweep takes it."""
    return name.rpartition(".")[2].replace("learning_rate", "lr")


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
