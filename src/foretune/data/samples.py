"""Messages and samples: one row of data as every part of foretune sees it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ROLES", "Message", "Sample", "content_key", "message_line", "sample_hash"]

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn; `role` is system, user or assistant."""

    role: str
    content: str

    def to_json(self) -> dict[str, str]:
        """The message as a chat template and the OpenAI format want it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: either a conversation that ends in an assistant message, or raw `text` (then `messages` is empty).

    `place` is `file:line` of the source; `group` names what must stay in one split; `meta` is carried along unread.
    """

    id: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    group: str = ""
    place: str = ""
    meta: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_text(self) -> bool:
        """Whether this is raw text, not a conversation."""
        return not self.messages

    @property
    def last_answer(self) -> int:
        """Index of the last assistant message; -1 where there is none."""
        indices = (i for i in range(len(self.messages) - 1, -1, -1) if self.messages[i].role == "assistant")
        return next(indices, -1)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant message: what inference is fed."""
        last = self.last_answer
        return self.messages if last < 0 else self.messages[:last]

    @property
    def target(self) -> str:
        """The last assistant message: what is expected; "" for raw text."""
        last = self.last_answer
        return "" if last < 0 else self.messages[last].content

    @property
    def input_text(self) -> str:
        """The last user message, or the raw text: the input alone, without system message or history."""
        for message in reversed(self.prompt):
            if message.role == "user":
                return message.content
        return self.text

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; empty fields are left out."""
        row: dict[str, Any] = {"id": self.id}
        if self.messages:
            row["messages"] = [message.to_json() for message in self.messages]
        for name in ("text", "group", "place", "meta"):
            value = getattr(self, name)
            if value:
                row[name] = value
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json`."""
        messages = tuple(Message(m["role"], m["content"]) for m in row.get("messages", ()))
        return cls(
            id=row["id"],
            messages=messages,
            text=row.get("text", ""),
            group=row.get("group", ""),
            place=row.get("place", ""),
            meta=dict(row.get("meta", {})),
        )


def content_key(sample: Sample) -> str:
    """The content of a sample as one canonical JSON string: roles, messages and text, nothing else."""
    return json.dumps([[[m.role, m.content] for m in sample.messages], sample.text], ensure_ascii=False)


def sample_hash(sample: Sample) -> str:
    """SHA-256 (hex) of the content alone: two rows with the same messages have the same hash, wherever they stood."""
    return hashlib.sha256(content_key(sample).encode("utf-8", "surrogatepass")).hexdigest()


def message_line(sample: Sample) -> str:
    """The sample as one line of an OpenAI fine-tuning file (`training_data.jsonl`), without the newline."""
    return json.dumps({"messages": [message.to_json() for message in sample.messages]}, ensure_ascii=False)
