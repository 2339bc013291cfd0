"""The turns of a row as messages: OpenAI's, ShareGPT's and Vertex' ways to write them, tool calls included."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from foretune.data.faults import FaultList, short
from foretune.data.samples import ROLES, Message

__all__ = ["check_order", "clean_text", "read_messages", "read_parts", "read_plain"]

ROLE_NAMES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALL_ROLES = ("function_call", "tool_call")  # ShareGPT: the value is the call as JSON
PLAIN_ROLES = {role: role for role in ("system", "user", "assistant")} | {"human": "user", "gpt": "assistant"}
READ_KEYS = ("role", "from", "content", "value", "weight", "train", "function_call")
UNSUPPORTED_KEYS = ("train_detail",)


def read_plain(values: Any, role_key: str, text_key: str) -> tuple[Message, ...] | None:
    """The messages of an ordinary conversation, fast; None where anything about it needs a closer look."""
    if type(values) is not list:
        return None
    messages = []
    previous = ""
    for value in values:
        try:
            if len(value) != 2:
                return None
            role = PLAIN_ROLES[value[role_key]]
            text = value[text_key]
        except (KeyError, TypeError, IndexError):
            return None
        if type(text) is not str or (role == "system" and previous):
            return None
        if role == "assistant" and not text.strip():
            return None
        messages.append(Message(role, text))
        previous = role
    if previous != "assistant" or len(messages) < 2 or not any(message.role == "user" for message in messages):
        return None
    return tuple(messages)


def clean_text(text: str, line: int, name: str, faults: FaultList) -> str:
    """The text; half a surrogate pair in it is a fault."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        value = short(text[max(error.start - 10, 0) : error.start + 10])
        faults.add(line, f"half a character in `{name}`", value=value, expected="both halves of the surrogate pair")
    return text


def read_messages(values: Sequence[Any], line: int, faults: FaultList, *, whole: bool = True) -> tuple[Message, ...]:
    """The turns, each checked; `whole` asks for a conversation that ends in an answer, and checks their order."""
    before = faults.count
    found = [_message(value, number, line, faults) for number, value in enumerate(values, start=1)]
    messages = tuple(message for message in found if message is not None)
    if whole and faults.count == before:
        check_order(messages, line, faults)
    return messages


def _message(value: Any, number: int, line: int, faults: FaultList) -> Message | None:
    where = f"message {number}"
    if not isinstance(value, dict):
        faults.add(line, f"{where} is no object", value=short(value), expected='{"role": "user", "content": "..."}')
        return None
    role = _role(value, where, line, faults)
    name = "value" if "value" in value and "content" not in value else "content"
    extra = _extra(value, where, line, faults)
    if name not in value and "tool_calls" not in extra:
        keys = short(list(value))
        faults.add(line, f"{where} has no content", value=keys, expected="content", fix='add "content": "..."')
        return None
    content = _content(value.get(name), where, line, faults)
    if role == "assistant" and value.get("from", value.get("role")) in CALL_ROLES:
        extra |= {"tool_calls": _spelled_calls(content, where, line, faults)}
        content = ""
    learn = _learn(value, role, where, line, faults)
    if not role:
        return None
    return Message(role, content, learn, json.dumps(extra, ensure_ascii=False, default=str) if extra else "")


def _role(value: Mapping[str, Any], where: str, line: int, faults: FaultList) -> str:
    raw = value.get("role", value.get("from"))
    if raw is None:
        faults.add(line, f"{where} has no role", value=short(list(value)), expected=", ".join(ROLES))
        return ""
    name = raw.strip().lower() if isinstance(raw, str) else ""
    role = ROLE_NAMES.get(name, name)
    if role in ROLES:
        return role
    faults.add(line, f"{where} has an unknown role", value=short(raw), expected=", ".join(ROLES))
    return ""


def _extra(value: Mapping[str, Any], where: str, line: int, faults: FaultList) -> dict[str, Any]:
    """What else a message says; null counts as absent, as tables fill missing keys with it."""
    extra = {key: item for key, item in value.items() if key not in READ_KEYS and item is not None}
    for key in UNSUPPORTED_KEYS:
        if key in extra:
            faults.add(line, f"{where} has `{key}`", expected="`weight` 0 or 1 for a whole answer")
    if "tool_calls" in extra:
        extra["tool_calls"] = _calls(extra["tool_calls"], where, line, faults)
        if not extra["tool_calls"]:
            del extra["tool_calls"]
    if value.get("function_call"):
        extra["tool_calls"] = _calls([value["function_call"]], where, line, faults)
    for key in [key for key in extra if not isinstance(extra[key], str)]:
        extra[key] = _plain_json(extra[key])
    for key in (key for key in extra if isinstance(extra[key], str)):
        clean_text(extra[key], line, f"{where}: {key}", faults)
    return extra


def _plain_json(value: Any) -> Any:
    """A value without the empty struct members that Parquet adds."""
    if isinstance(value, dict):
        return {key: _plain_json(item) for key, item in value.items() if item is not None}
    return [_plain_json(item) for item in value] if isinstance(value, list) else value


def _calls(value: Any, where: str, line: int, faults: FaultList) -> list[dict[str, Any]]:
    """Tool calls in OpenAI's form: `{"type": "function", "function": {"name": ..., "arguments": "..."}}`."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        expected = '[{"type": "function", "function": {"name": "...", "arguments": "{}"}}]'
        faults.add(line, f"{where}: `tool_calls` is no list of calls", value=short(value), expected=expected)
        return []
    return [found for call in value if (found := _call(call, where, line, faults))]


def _call(call: Mapping[str, Any], where: str, line: int, faults: FaultList) -> dict[str, Any]:
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        faults.add(line, f"{where}: a tool call has no name", value=short(call), expected='"name": "..."')
        return {}
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str) and not _is_json(arguments):
        faults.add(line, f"{where}: the arguments of {name} are no JSON", value=short(arguments), expected="{...}")
    text = arguments if isinstance(arguments, str) else json.dumps(_plain_json(arguments), ensure_ascii=False)
    clean_text(text, line, f"{where}: arguments", faults)
    head = {"id": call["id"]} if call.get("id") else {}
    return {**head, "type": "function", "function": {"name": name, "arguments": text}}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _spelled_calls(text: str, where: str, line: int, faults: FaultList) -> list[dict[str, Any]]:
    """ShareGPT's `function_call`: one call, or a list of calls, as JSON text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        expected = '{"name": "...", "arguments": {...}}'
        faults.add(line, f"{where}: the function call is no JSON", value=short(text), expected=expected)
        return []
    return _calls(value if isinstance(value, list) else [value], where, line, faults)


def _learn(value: Mapping[str, Any], role: str, where: str, line: int, faults: FaultList) -> bool:
    """Whether an answer is to be learned: OpenAI's `weight` 0 or 1, axolotl's `train`."""
    raw = value.get("weight", value.get("train"))
    if raw is None or role != "assistant":
        return True
    if raw not in (0, 1):
        faults.add(line, f"{where} has an unknown weight", value=short(raw), expected="0 or 1")
    return bool(raw)


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
    return clean_text(value, line, where, faults)


def read_parts(values: Sequence[Any]) -> list[Any]:
    """Vertex' `contents` as OpenAI's messages: role `model`, text parts, function calls and their responses."""
    return [message for value in values for message in _vertex_turn(value)]


def _vertex_turn(value: Any) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get("parts"), list):
        return [value]
    role = value.get("role", "user")
    parts = [part for part in value["parts"] if isinstance(part, dict)]
    responses = [part["functionResponse"] for part in parts if isinstance(part.get("functionResponse"), dict)]
    if responses:
        return [_vertex_response(response) for response in responses]
    texts = [part.get("text") for part in parts if "functionCall" not in part]
    message: dict[str, Any] = {"role": role, "content": texts if len(parts) == len(value["parts"]) else value["parts"]}
    calls = [_vertex_call(part["functionCall"]) for part in parts if "functionCall" in part]
    return [{**message, "tool_calls": calls} if calls else message]


def _vertex_call(call: Any) -> Any:
    return (
        {"function": {"name": call.get("name"), "arguments": call.get("args", {})}} if isinstance(call, dict) else call
    )


def _vertex_response(response: Mapping[str, Any]) -> dict[str, Any]:
    value = response.get("response", {})
    is_text = isinstance(value, dict) and list(value) == ["content"] and isinstance(value["content"], str)
    content = value["content"] if is_text else json.dumps(value, ensure_ascii=False, default=str)
    return {"role": "tool", "name": response.get("name"), "content": content}


def check_order(messages: Sequence[Message], line: int, faults: FaultList) -> None:
    """System first or not at all, something asked, an answer at the end, results only after tool calls."""
    roles = [message.role for message in messages]
    shown = ", ".join(roles[:8])
    if "system" in roles[1:]:
        faults.add(line, "the system message is not first", value=shown, expected="system first, or none")
    if "assistant" not in roles:
        faults.add(line, "no assistant message", value=shown, fix="add the answer that is to be learned")
    elif "user" not in roles:
        faults.add(line, "no user message", value=shown, fix="add what the user asked")
    elif roles[-1] != "assistant":
        fix = "add the answer, or take the last message out"
        faults.add(line, "the last message is not the assistant's", value=roles[-1], expected="assistant", fix=fix)
    for number, (role, before) in enumerate(zip(roles, ["", *roles], strict=False), start=1):
        if role == "tool" and before not in ("assistant", "tool"):
            faults.add(line, f"message {number} is a tool's result, but no call is before it", value=shown)
            break
    if messages and all(not m.learn for m in messages if m.role == "assistant") and "assistant" in roles:
        faults.add(line, "every answer has weight 0, so there is nothing to learn", fix="take the row out")
