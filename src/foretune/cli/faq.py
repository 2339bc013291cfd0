"""`foretune faq`: short answers with sources, dates and the command that computes more."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json

__all__ = ["command"]


def command(
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]...", help="A topic, or a question in words.", show_default=False),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Answer a question, with sources, dates and figures computed now.

    Without a topic, every question.

    \b
    Examples:
      foretune faq
      foretune faq long
      foretune faq can I open source the model --json
    """
    if not topic:
        return _all()
    from rich.markup import escape

    from foretune.plan.faq import answered, find_entry

    found = answered(find_entry(" ".join(topic)))
    entry = found.entry
    document = {
        "command": "faq",
        "topic": entry.id,
        "question": entry.question,
        "answer": found.text,
        "figures": found.figures,
        "sources": list(entry.sources),
        "date": entry.date,
        "see": entry.command,
    }
    sources = f"[dim]{escape('; '.join(entry.sources))}; {entry.date}[/]"
    shown = [f"[bold]{escape(entry.question)}[/]", "", *map(escape, _paragraphs(found.text)), "", sources]
    return Answer(document, shown, next=entry.command)


def _all() -> Answer:
    from foretune.cli.show import facts_table
    from foretune.plan.faq import read_faq

    entries = read_faq()
    document = {"command": "faq", "topics": {entry.id: entry.question for entry in entries}}
    return Answer(
        document, [facts_table({entry.id: entry.question for entry in entries})], next="foretune faq necessary"
    )


def _paragraphs(text: str) -> list[str]:
    """Lines of a paragraph joined, so that they wrap at the terminal's width; indented ones are a list and stay."""
    blocks = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        blocks += [*(lines if lines[0].startswith("  ") else [" ".join(lines)]), ""]
    return blocks[:-1]


command.__name__ = "faq"
