"""The shapes of the world: documents, question-answer pairs, drawable tasks, and seeded random streams."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

Message = dict[str, str]


@dataclass(frozen=True)
class Document:
    """One corpus document: either plain `text` or chat `messages`, and the skill it trains."""

    skill: str
    text: str | None = None
    messages: tuple[Message, ...] = ()


class Pair(NamedTuple):
    """What a user gives and what a right answer is."""

    question: str
    answer: str


@dataclass(frozen=True)
class Task:
    """One drawn task: its label words, keys and format are fixed, its pairs are drawn on demand.

    `instruction` tells what to do (it may hold several sentences); when `from_examples` is true the solved examples
    alone determine the mapping, so the task can be posed without its instruction; when `closed` is true the answers
    come from a small set, so an unposed task asks only for answers that an example has shown.
    """

    skill: str
    instruction: str
    draw: Callable[[Random], Pair]
    from_examples: bool = True
    closed: bool = False


def stream(space: str, seed: int, index: int) -> Random:
    """Return the random stream of item `index`; spaces (train, probe, template) never share a stream."""
    return Random(f"{space}/{seed}/{index}")


def user(content: str) -> Message:
    """Return a user message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """Return an assistant message."""
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    """Return a system message."""
    return {"role": "system", "content": content}
