"""Messages and samples: one row of data as every part of foretune sees it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ROLES", "Message", "Sample", "common_length", "content_key", "message_line", "sample_hash"]

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn; `role` is system, user, assistant or tool.

    `learn` is false for an answer that is shown but not to be learned (`"weight": 0`). `extra` is a JSON object, as
    text, of whatever else the message says: `tool_calls`, `tool_call_id`, `name`, `reasoning_content`; "" if nothing.
    """

    role: str
    content: str
    learn: bool = True
    extra: str = ""

    @property
    def extras(self) -> dict[str, Any]:
        """What `extra` holds, by name."""
        found: dict[str, Any] = json.loads(self.extra) if self.extra else {}
        return found

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls that an assistant's turn makes, in OpenAI's form; [] if none."""
        return self.extras.get("tool_calls") or [] if self.extra else []

    def to_json(self) -> dict[str, Any]:
        """The message as a chat template and the OpenAI format want it."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.extra:
            plain |= self.extras
        return plain if self.learn else {**plain, "weight": 0}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Message:
        """The inverse of `to_json`."""
        rest = {key: item for key, item in value.items() if key not in ("role", "content", "weight")}
        extra = json.dumps(rest, ensure_ascii=False) if rest else ""
        return cls(value["role"], value["content"], value.get("weight", 1) != 0, extra)


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: either a conversation that ends in an assistant message, or raw `text` (then `messages` is empty).

    `place` is `file:line` of the source; `group` names what must stay in one split; `meta` is carried along unread.
    `tools` is the JSON text of the tools that the model may call. Preference data: `rejected` is the whole
    conversation with the worse ending (`messages` has the better one), or `desirable` judges the answer alone (KTO).
    """

    id: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    group: str = ""
    place: str = ""
    meta: dict[str, Any] = field(default_factory=dict, hash=False)
    tools: str = ""
    rejected: tuple[Message, ...] = ()
    desirable: bool | None = None

    @property
    def is_text(self) -> bool:
        """Whether this is raw text, not a conversation."""
        return not self.messages

    @property
    def is_preference(self) -> bool:
        """Whether this says which answer is better, or whether one is good, and not only what to answer."""
        return bool(self.rejected) or self.desirable is not None

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
        """The last assistant message: what is expected, tool calls as JSON text; "" for raw text."""
        last = self.last_answer
        if last < 0:
            return ""
        message = self.messages[last]
        if message.content or not message.tool_calls:
            return message.content
        return json.dumps([call.get("function", call) for call in message.tool_calls], ensure_ascii=False)

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
        for name in ("text", "group", "place", "meta", "tools"):
            value = getattr(self, name)
            if value:
                row[name] = value
        if self.rejected:
            row["rejected"] = [message.to_json() for message in self.rejected]
        if self.desirable is not None:
            row["desirable"] = self.desirable
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json`."""
        return cls(
            id=row["id"],
            messages=tuple(map(Message.from_json, row.get("messages", ()))),
            text=row.get("text", ""),
            group=row.get("group", ""),
            place=row.get("place", ""),
            meta=dict(row.get("meta", {})),
            tools=row.get("tools", ""),
            rejected=tuple(map(Message.from_json, row.get("rejected", ()))),
            desirable=row.get("desirable"),
        )


def common_length(sample: Sample) -> int:
    """How many messages the better and the worse conversation share: the prompt of a preference pair."""
    shortest = min(len(sample.messages), len(sample.rejected)) - 1
    same = (i for i in range(shortest) if sample.messages[i] != sample.rejected[i])
    return next(same, max(shortest, 0))


def content_key(sample: Sample) -> str:
    """The content of a sample as one canonical JSON string: messages, text, tools and preference, nothing else."""
    content: list[Any] = [[_message_key(message) for message in sample.messages], sample.text]
    if sample.tools or sample.is_preference:
        content += [sample.tools, [_message_key(message) for message in sample.rejected], sample.desirable]
    return json.dumps(content, ensure_ascii=False)


def _message_key(message: Message) -> list[Any]:
    plain: list[Any] = [message.role, message.content]
    return plain if message.learn and not message.extra else [*plain, message.learn, message.extra]


def sample_hash(sample: Sample) -> str:
    """SHA-256 (hex) of the content alone: two rows with the same messages have the same hash, wherever they stood."""
    return hashlib.sha256(content_key(sample).encode("utf-8", "surrogatepass")).hexdigest()


def message_line(sample: Sample) -> str:
    """The sample as one line of an OpenAI fine-tuning file (`training_data.jsonl`), without the newline."""
    row: dict[str, Any] = {"messages": [message.to_json() for message in sample.messages]}
    if sample.tools:
        row["tools"] = json.loads(sample.tools)
    return json.dumps(row, ensure_ascii=False)
