"""`foretune chat`: talk to what a run made, to its base, or to both side by side."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, RunsDir, console
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.api import Chat
    from foretune.data.samples import Message

__all__ = ["command"]

QUIT = ("/quit", "/exit", "/q")


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|pebble", help="Run id, `latest`, or the embedded model.")] = LATEST,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this once and leave.")] = None,
    compare_base: Annotated[bool, typer.Option("--compare-base", help="Let the base answer beside the run.")] = False,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 256,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Talk to a run, to its base, or to both.

    Without --message it asks line by line; /quit leaves.

    \b
    Examples:
      foretune chat --compare-base
      foretune chat json-extract-001 --message "my order 4711 is late" --json
      foretune chat pebble
    """
    from foretune import api

    if json and message is None:
        raise ConfigError("--json answers one message, none is given", fix='--message "..."')
    if compare_base and run == "pebble":
        raise ConfigError("pebble is a base itself", fix="foretune chat RUN --compare-base")
    chats = [api.chat(run, runs_dir=runs_dir)]
    if compare_base:
        chats.insert(0, api.chat(run, runs_dir=runs_dir, base=True))
    then = "foretune runs list" if run == "pebble" else f"foretune report {chats[-1].name}"
    if message is not None:
        answers = _replies(chats, [[] for _ in chats], message, max_new_tokens)
        replies = [{"name": chat.name, "reply": answer} for chat, answer in zip(chats, answers, strict=True)]
        document: dict[str, Any] = {"command": "chat", "message": message, "replies": replies}
        return Answer(document, [_side_by_side(chats, answers)], next=then)
    _talk(chats, max_new_tokens)
    return Answer({"command": "chat"}, next=then)


command.__name__ = "chat"


def _talk(chats: list[Chat], max_new_tokens: int) -> None:
    out = console(sys.stdout)
    print(f"talking to {' and '.join(chat.name for chat in chats)}; /quit leaves", file=sys.stderr)
    histories: list[list[Message]] = [[] for _ in chats]
    for text in _typed():
        out.print(_side_by_side(chats, _replies(chats, histories, text, max_new_tokens)))


def _typed() -> Iterator[str]:
    """What the user says, until /quit or the end of the input."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text in QUIT:
            return
        if text:
            yield text


def _replies(chats: list[Chat], histories: list[list[Message]], text: str, max_new_tokens: int) -> list[str]:
    """The answer of each; every one sees its own answers of before."""
    from foretune.data.samples import Message

    answers = []
    for chat, history in zip(chats, histories, strict=True):
        history.append(Message("user", text))
        answers.append(chat.reply(history, max_new_tokens))
        history.append(Message("assistant", answers[-1]))
    return answers


def _side_by_side(chats: list[Chat], answers: list[str]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    if len(chats) == 1:
        return escape(answers[0])
    table = Table(box=None, pad_edge=False, expand=True)
    for chat in chats:
        table.add_column(escape(Path(chat.name).name), ratio=1, overflow="fold")
    table.add_row(*[escape(answer) for answer in answers])
    return table
