"""What the fields of a row mean: which known form it has, and the conversation or text that it holds."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from foretune.data.faults import FaultList, short
from foretune.data.rows import Row
from foretune.data.samples import ROLES, Message

__all__ = ["EMPTY_ANSWER", "KNOWN_FORMS", "Content", "Dialect", "recognise", "row_content"]

KNOWN_FORMS = (
    "messages | prompt + completion | input + output | question + answer | instruction (+ input) + output | "
    "conversations | text + label | text"
)
TARGETS: dict[str, tuple[str, ...]] = {
    "completion": ("prompt", "input"),
    "output": ("input", "prompt", "text", "query", "question"),
    "response": ("prompt", "instruction", "query", "question", "input", "context"),
    "answer": ("question", "query", "input", "prompt"),
    "target": ("source", "input", "text", "prompt"),
    "summary": ("dialogue", "article", "document", "text", "source", "input"),
    "summary1": ("dialogue", "article", "document", "text", "source", "input"),
    "highlights": ("article", "document", "text"),
    "ref": ("mr", "source", "input"),
    "reference": ("mr", "source", "input"),
    "human_reference": ("meaning_representation",),
}
LABELS = ("label_text", "label_name", "label", "category", "class", "intent", "sentiment", "emotion", "labels")
LABELLED_TEXTS = (
    *("text", "sentence", "content", "utterance", "input", "query", "question", "tweet", "review", "comment"),
    *("message", "title", "prompt", "document"),
)
TEXTS = ("text", "content", "document", "body")
CHATS = ("messages", "conversations", "conversation")
ROLE_NAMES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "developer": "system",
}
TOOL_ROLES = ("tool", "function", "ipython", "function_call", "observation", "tool_response")
LOOKED_AT = 200  # rows that decide on the form of a file
EMPTY_ANSWER = "the answer is empty"


class Dialect(NamedTuple):
    """The form of a file's rows; the fields are those of input and target, or of the conversation."""

    form: str  # messages, sharegpt, alpaca, pair, labelled or text
    input_field: str
    target_field: str = ""

    @property
    def shown(self) -> str:
        """How the form is told to the user: `prompt/completion pairs`."""
        if self.form in ("pair", "labelled"):
            what = "pairs" if self.form == "pair" else "labelled text"
            return f"{self.input_field}/{self.target_field} {what}"
        return {"text": f"raw text ({self.input_field})"}.get(self.form, self.form)


class Content(NamedTuple):
    """What a row says: messages, or raw text; `used` are the fields it came from, `meta` what conversion would lose."""

    messages: tuple[Message, ...]
    text: str
    used: frozenset[str]
    meta: dict[str, Any]


def recognise(
    rows: Sequence[Row], *, task: str = "auto", input_field: str = "", target_field: str = ""
) -> Dialect | None:
    """The form that most of the first rows have; None if it is no known one."""
    if input_field or target_field:
        return _named(rows, task, input_field, target_field)
    votes: dict[Dialect, int] = {}
    for row in rows[:LOOKED_AT]:
        found = _form_of(row.fields, task)
        if found is not None:
            votes[found] = votes.get(found, 0) + 1
    return max(votes, key=lambda dialect: votes[dialect]) if votes else None


def _named(rows: Sequence[Row], task: str, input_field: str, target_field: str) -> Dialect | None:
    """The form when the job names fields; a missing one of the two is looked up."""
    if task == "text":
        return Dialect("text", input_field or target_field)
    guess = recognise(rows, task=task)
    source = input_field or (guess.input_field if guess else "")
    target = target_field or (guess.target_field if guess else "")
    if not source or not target:
        return None
    return Dialect("labelled" if task == "classify" or target in LABELS else "pair", source, target)


def _form_of(fields: Mapping[str, Any], task: str) -> Dialect | None:
    if task == "text":
        return next((Dialect("text", name) for name in TEXTS if name in fields), None)
    for name in CHATS:
        if isinstance(fields.get(name), list):
            return Dialect("sharegpt" if _has_from(fields[name]) else "messages", name)
    if "instruction" in fields and "output" in fields:
        return Dialect("alpaca", "instruction", "output")
    labels = (name for name in LABELS if name in fields)
    for target, sources in (*TARGETS.items(), *((name, LABELLED_TEXTS) for name in labels)):
        source = next((name for name in sources if name in fields), "")
        if source and target in fields:
            return Dialect("labelled" if target in LABELS else "pair", source, target)
    return next((Dialect("text", name) for name in TEXTS if name in fields), None)


def _has_from(messages: list[Any]) -> bool:
    return bool(messages) and isinstance(messages[0], dict) and "from" in messages[0]


def row_content(row: Row, dialect: Dialect, faults: FaultList) -> Content | None:
    """The conversation or text of a row; None where it has faults, which are added to `faults`."""
    before = len(faults.faults)
    readers = {"messages": _chat, "sharegpt": _chat, "alpaca": _alpaca, "text": _raw_text}
    content = readers.get(dialect.form, _pair)(row, dialect, faults)
    return content if len(faults.faults) == before else None


def _field(row: Row, name: str, faults: FaultList) -> str:
    """A field as text: texts as they are, numbers as written, objects as JSON, null as nothing."""
    if name not in row.fields:
        fix = "add it, or name the right field: data.input_field, data.target_field"
        faults.add(row.line, f"no field `{name}`", value=short(list(row.fields)), expected=name, fix=fix)
        return ""
    value = row.fields[name]
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _clean(text, row.line, name, faults)


def _clean(text: str, line: int, name: str, faults: FaultList) -> str:
    """The text, if it can be written as UTF-8 (JSON can spell half a surrogate pair, which is no character)."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        value = short(text[max(error.start - 10, 0) : error.start + 10])
        faults.add(line, f"half a character in `{name}`", value=value, expected="both halves of the surrogate pair")
    return text


def _pair(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    prompt = row.fields.get(dialect.input_field)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) and "role" in prompt[0]:
        return _split_chat(row, dialect, faults)
    source, target = (_field(row, name, faults) for name in (dialect.input_field, dialect.target_field))
    system = _system(row, faults)
    if dialect.form == "labelled":
        source, target = source.strip(), target.strip()
    messages = (*system, Message("user", source), Message("assistant", target))
    used = {dialect.input_field, dialect.target_field, *(["system"] if system else [])}
    return Content(messages, "", frozenset(used), {})


def _split_chat(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    """Prompt and completion that are themselves lists of messages."""
    completion = row.fields.get(dialect.target_field)
    tail = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
    messages = _messages([*row.fields[dialect.input_field], *tail], row.line, faults)
    return Content(messages, "", frozenset({dialect.input_field, dialect.target_field}), {})


def _system(row: Row, faults: FaultList) -> tuple[Message, ...]:
    text = _field(row, "system", faults) if "system" in row.fields else ""
    return (Message("system", text),) if text else ()


def _alpaca(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    """Instruction and input become one user message; `input_at` in `meta` remembers where the instruction ended."""
    instruction, target = _field(row, "instruction", faults), _field(row, dialect.target_field, faults)
    extra = _field(row, "input", faults) if "input" in row.fields else ""
    system = _system(row, faults)
    prompt = f"{instruction}\n\n{extra}" if extra else instruction
    used = frozenset({"instruction", "input", dialect.target_field, "system"})
    messages = (*system, Message("user", prompt), Message("assistant", target))
    return Content(messages, "", used, {"input_at": len(instruction)} if extra else {})


def _raw_text(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    text = _field(row, dialect.input_field, faults)
    if not text.strip():
        faults.add(row.line, "the text is empty", fix="take the row out")
    return Content((), text, frozenset({dialect.input_field}), {})


def _chat(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    value = row.fields.get(dialect.input_field)
    if not isinstance(value, list) or not value:
        expected = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
        faults.add(row.line, f"`{dialect.input_field}` is no conversation", value=short(value), expected=expected)
        return Content((), "", frozenset(), {})
    messages = _messages(value, row.line, faults)
    system = _system(row, faults) if messages and messages[0].role != "system" else ()
    used = frozenset({dialect.input_field, *(["system"] if system else [])})
    return Content((*system, *messages), "", used, {})


def _messages(values: Sequence[Any], line: int, faults: FaultList) -> tuple[Message, ...]:
    before = len(faults.faults)
    found = [_message(value, number, line, faults) for number, value in enumerate(values, start=1)]
    messages = tuple(message for message in found if message is not None)
    if len(faults.faults) > before:
        return messages
    _check_order(messages, line, faults)
    return messages


def _message(value: Any, number: int, line: int, faults: FaultList) -> Message | None:
    where = f"message {number}"
    if not isinstance(value, dict):
        faults.add(line, f"{where} is no object", value=short(value), expected='{"role": "user", "content": "..."}')
        return None
    role = _role(value, where, line, faults)
    for key in ("tool_calls", "function_call"):
        if value.get(key):
            faults.add(line, f"{where} has `{key}`", expected="plain text answers", fix="take rows with tool calls out")
    name = "value" if "value" in value and "content" not in value else "content"
    if name not in value:
        keys = short(list(value))
        faults.add(line, f"{where} has no content", value=keys, expected="content", fix='add "content": "..."')
        return None
    content = _content(value[name], where, line, faults)
    return Message(role, content) if role else None


def _role(value: Mapping[str, Any], where: str, line: int, faults: FaultList) -> str:
    raw = value.get("role", value.get("from"))
    if raw is None:
        faults.add(line, f"{where} has no role", value=short(list(value)), expected=", ".join(ROLES))
        return ""
    name = raw.strip().lower() if isinstance(raw, str) else ""
    role = ROLE_NAMES.get(name, name)
    if role in ROLES:
        return role
    fix = "take rows with tool calls out" if role in TOOL_ROLES else ""
    faults.add(line, f"{where} has an unknown role", value=short(raw), expected=", ".join(ROLES), fix=fix)
    return ""


def _content(value: Any, where: str, line: int, faults: FaultList) -> str:
    """Text, or a list of text parts joined; null counts as empty."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        if all(isinstance(part, str) for part in parts):
            value = "".join(str(part) for part in parts)
    if value is None:
        return ""
    if not isinstance(value, str):
        faults.add(line, f"{where}: content is no text", value=short(value), expected="text")
        return ""
    return _clean(value, line, where, faults)


def _check_order(messages: Sequence[Message], line: int, faults: FaultList) -> None:
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        faults.add(
            line, "the system message is not first", value=", ".join(roles[:8]), expected="system first, or none"
        )
    if "assistant" not in roles:
        faults.add(line, "no assistant message", value=", ".join(roles[:8]), fix="add the answer that is to be learned")
    elif "user" not in roles:
        faults.add(line, "no user message", value=", ".join(roles[:8]), fix="add what the user asked")
    elif roles[-1] != "assistant":
        fix = "add the answer, or take the last message out"
        faults.add(line, "the last message is not the assistant's", value=roles[-1], expected="assistant", fix=fix)
