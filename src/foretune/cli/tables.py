"""Tables and lines that every command shows alike, without a frame, for a terminal of 80 columns."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

__all__ = ["facts_table", "plain_table", "system_name", "warning_lines"]

SYSTEM_NAMES = {
    "base_zero_shot": "base",
    "base_few_shot": "base, prompted",
    "constant": "one answer to all",
    "base_retrieval": "base, documents",
    "fine_tuned": "fine-tuned",
    "fine_tuned_8bit": "fine-tuned, 8 bit",
    "fine_tuned_4bit": "fine-tuned, 4 bit",
}


def plain_table(*headings: str, title: str = "") -> Table:
    """A table without a frame; numbers stand right where the heading begins with `>`."""
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return table


def facts_table(facts: Mapping[str, str], title: str = "") -> Table:
    """Names and values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False, title=title or None, title_justify="left")
    table.title_style = "bold"
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, escape(value))
    return table


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """Each warning as a line of its own."""
    return [f"[yellow]warning:[/] {escape(warning)}" for warning in warnings]


def system_name(name: str) -> str:
    """A system in a few words."""
    return SYSTEM_NAMES.get(name, name)
