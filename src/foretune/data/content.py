"""What a row says, given its form: a conversation, a preference between two, or raw text."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from foretune.data.dialect import Dialect, listed
from foretune.data.faults import FaultList, short
from foretune.data.row import Row
from foretune.data.samples import Message
from foretune.data.turn_rows import (
    check_order,
    clean_text,
    read_messages,
    read_parts,
    read_plain,
)

__all__ = ["Content", "row_content"]

SYSTEM_FIELDS = ("system", "system_prompt")
VERTEX_SYSTEMS = ("systemInstruction", "system_instruction")
TOOL_FIELDS = ("tools", "functions")
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"  # how HH-RLHF writes turns into one text
SPOKEN = re.compile(f"{HUMAN}|{ASSISTANT}")
Messages = tuple[Message, ...]


class Content(NamedTuple):
    """What a row says: messages, or raw text; `used` are the fields it came from, `meta` what conversion would lose."""

    messages: Messages
    text: str
    used: frozenset[str]
    meta: dict[str, Any]
    tools: str = ""
    rejected: Messages = ()
    desirable: bool | None = None
    is_filled: bool = False  # it is known already that no answer is empty


NOTHING = Content((), "", frozenset(), {})


def row_content(row: Row, dialect: Dialect, faults: FaultList) -> Content | None:
    """The conversation or text of a row; None where it has faults, which are added to `faults`."""
    before = faults.count
    faults.row = row.fields
    if not row.is_plain and _has_halves(row, faults):
        return None
    content = READERS[dialect.form](row, dialect, faults)
    if dialect.form == "openai_dpo" and isinstance(row.fields.get("input"), dict):
        content = _with_tools(row, "input", row.fields["input"].get("tools"), content, faults)
    for name in TOOL_FIELDS:
        if name in row.fields:
            content = _with_tools(row, name, row.fields[name], content, faults)
    if dialect.flag_field:
        content = _with_flag(row, dialect, content, faults)
    return content if faults.count == before else None


def _has_halves(row: Row, faults: FaultList) -> bool:
    """Whether a field holds half a surrogate pair, which JSON can spell and UTF-8 cannot; each becomes a fault."""
    before = faults.count
    for name, value in row.fields.items():
        clean_text(json.dumps({name: value}, ensure_ascii=False, default=str), row.line, name, faults)
    return faults.count > before


def _field(row: Row, name: str, faults: FaultList) -> str:
    """A field as text: texts as they are, numbers as written, objects as JSON, null as nothing."""
    try:
        value = row.fields[name]
    except KeyError:
        fix = "add it, or name the right field: data.input_field, data.target_field"
        faults.add(row.line, f"no field `{name}`", value=short(list(row.fields)), expected=name, fix=fix)
        return ""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _decoded(value, name, row.line, faults)
    return clean_text(json.dumps(value, ensure_ascii=False, default=str), row.line, name, faults)


def _decoded(value: bytes, name: str, line: int, faults: FaultList) -> str:
    """A binary column of Parquet may hold text."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        faults.add(line, f"`{name}` is no text", value=short(value), expected="UTF-8")
    return ""


def _pair(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    prompt = row.fields.get(dialect.input_field)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) and ("role" in prompt[0]):
        return _split_chat(row, dialect, faults)
    source, target = _field(row, dialect.input_field, faults), _field(row, dialect.target_field, faults)
    system, system_field = _system(row, dialect, faults)
    if dialect.form == "labelled":
        source, target = source.strip(), target.strip()
    messages = (*system, Message("user", source), Message("assistant", target))
    return Content(messages, "", frozenset((dialect.input_field, dialect.target_field, system_field)), {})


def _split_chat(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    """Prompt and completion that are themselves lists of messages."""
    completion = row.fields.get(dialect.target_field)
    tail = completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
    messages = read_messages([*row.fields[dialect.input_field], *tail], row.line, faults)
    return Content(messages, "", frozenset({dialect.input_field, dialect.target_field}), {})


def _system(row: Row, dialect: Dialect, faults: FaultList) -> tuple[Messages, str]:
    """The system message that stands in a field of its own, and that field's name."""
    for name in SYSTEM_FIELDS:
        if name in row.fields and name not in (dialect.input_field, dialect.target_field):
            text = _field(row, name, faults)
            return ((Message("system", text),) if text else ()), name
    return (), ""


def _alpaca(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    """Instruction and input become one user message; `input_at` in `meta` remembers where the instruction ended."""
    prompt, meta = _instruction(row, dialect.input_field, dialect.second_field, faults)
    target = _field(row, dialect.target_field, faults)
    system, system_field = _system(row, dialect, faults)
    earlier = _history(row, faults) if row.fields.get("history") else ()
    names = (dialect.input_field, dialect.second_field, dialect.target_field, system_field, "history")
    messages = (*system, *earlier, Message("user", prompt), Message("assistant", target))
    return Content(messages, "", frozenset(names), meta)


def _instruction(row: Row, name: str, second: str, faults: FaultList) -> tuple[str, dict[str, Any]]:
    instruction = _field(row, name, faults)
    extra = _field(row, second, faults) if second in row.fields else ""
    if not extra:
        return instruction, {}
    return f"{instruction}\n\n{extra}", {"input_at": len(instruction)}


def _history(row: Row, faults: FaultList) -> Messages:
    """Earlier turns as LLaMA-Factory writes them: pairs of instruction and answer."""
    pairs = row.fields["history"]
    is_good = isinstance(pairs, list) and all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs)
    if not is_good or not all(isinstance(text, str) for pair in pairs for text in pair):
        expected = '[["instruction", "answer"], ...]'
        faults.add(row.line, "`history` is no list of pairs", value=short(pairs), expected=expected)
        return ()
    texts = [clean_text(text, row.line, "history", faults) for pair in pairs for text in pair]
    return tuple(Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts))


def _raw_text(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    text = _field(row, dialect.input_field, faults)
    if not text.strip():
        faults.add(row.line, "the text is empty", fix="take the row out")
    return Content((), text, frozenset({dialect.input_field}), {})


def _chat(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    value = row.fields.get(dialect.input_field)
    keys = ("from", "value") if dialect.form == "sharegpt" else ("role", "content")
    plain = read_plain(value, *keys)
    messages = plain if plain is not None else _careful_chat(row, dialect.input_field, listed(value), faults)
    if "system" not in row.fields and "system_prompt" not in row.fields:
        return Content(messages, "", frozenset((dialect.input_field,)), {}, is_filled=plain is not None)
    system, system_field = _system(row, dialect, faults)
    if messages and messages[0].role == "system":
        system, system_field = (), ""
    return Content((*system, *messages), "", frozenset((dialect.input_field, system_field)), {})


def _careful_chat(row: Row, name: str, value: Any, faults: FaultList) -> Messages:
    if not isinstance(value, list) or not value:
        expected = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
        faults.add(row.line, f"`{name}` is no conversation", value=short(value), expected=expected)
        return ()
    return read_messages(value, row.line, faults)


def _vertex(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    value = listed(row.fields.get(dialect.input_field))
    if not isinstance(value, list) or not value:
        expected = '[{"role": "user", "parts": [{"text": "..."}]}, {"role": "model", "parts": [{"text": "..."}]}]'
        faults.add(row.line, f"`{dialect.input_field}` is no conversation", value=short(value), expected=expected)
        return NOTHING
    turns = read_parts(value)
    name = next((name for name in VERTEX_SYSTEMS if row.fields.get(name)), "")
    if name:
        instruction = _spelled(row.fields[name])
        turns = (
            read_parts([{**instruction, "role": "system"} if isinstance(instruction, dict) else instruction]) + turns
        )
    return Content(read_messages(turns, row.line, faults), "", frozenset((dialect.input_field, name)), {})


def _spelled(value: Any) -> Any:
    """The object that a table spells as JSON text, or the text as an instruction; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"parts": [{"text": value}]}


def _preference(row: Row, dialect: Dialect, faults: FaultList) -> Content:
    """A prompt with a better and a worse answer, or two conversations that begin alike."""
    before = faults.count
    prompt, used, meta = _preference_prompt(row, dialect, faults)
    names = (dialect.target_field, dialect.second_field)
    if not prompt and all(isinstance(row.fields.get(name), str) for name in names):
        chosen, rejected = _spoken_pair(row, *names, faults)
    else:
        chosen, rejected = (_completed(prompt, row, name, faults) for name in names)
    if faults.count == before:
        _check_pair(chosen, rejected, row.line, faults)
    return Content(chosen, "", frozenset((*used, *names)), meta, rejected=rejected)


def _preference_prompt(row: Row, dialect: Dialect, faults: FaultList) -> tuple[Messages, list[str], dict[str, Any]]:
    """The prompt of a preference row, the fields it came from, and what its conversion would lose."""
    name = dialect.input_field
    system, system_field = _system(row, dialect, faults)
    used = [name, *([system_field] if system else [])]
    value = row.fields.get(name) if name else None
    if isinstance(value, dict) and isinstance(value.get("messages"), list):  # OpenAI's `input`
        value = value["messages"]
    if isinstance(value, list):
        return (*system, *read_messages(value, row.line, faults, whole=False)), used, {}
    if not name:
        return system, used, {}
    second = "input" if name == "instruction" and "input" in row.fields else ""
    text, meta = _instruction(row, name, second, faults)
    return (*system, Message("user", text)), [*used, second], meta


def _completed(prompt: Messages, row: Row, name: str, faults: FaultList) -> Messages:
    """The whole conversation with one of the two endings; an ending may repeat the prompt."""
    value = row.fields.get(name)
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        messages = read_messages(value, row.line, faults, whole=False)
    else:
        messages = (Message("assistant", _field(row, name, faults)),)
    asked = tuple(message for message in prompt if message.role != "system")
    if asked and messages[: len(asked)] == asked:
        messages = messages[len(asked) :]
    return messages if prompt and messages[: len(prompt)] == prompt else (*prompt, *messages)


def _spoken_pair(row: Row, chosen: str, rejected: str, faults: FaultList) -> tuple[Messages, Messages]:
    """Two texts without a prompt: dialogues that spell `Human:` and `Assistant:`, or texts that begin alike."""
    texts = [_field(row, name, faults) for name in (chosen, rejected)]
    if all(text.startswith(HUMAN) for text in texts):
        return _spoken(texts[0]), _spoken(texts[1])
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    border = max(texts[0].rfind(mark, 0, same) for mark in " \n") + 1
    prompt = texts[0][:border]
    if not prompt.strip():
        expected = "a prompt field, or texts that begin alike"
        faults.add(
            row.line, f"`{chosen}` and `{rejected}` have no common prompt", value=short(texts[0]), expected=expected
        )
    asked = Message("user", prompt)
    return (asked, Message("assistant", texts[0][border:])), (asked, Message("assistant", texts[1][border:]))


def _spoken(text: str) -> Messages:
    """Turns of a dialogue in one text, each less the blank before it."""
    marks = [*SPOKEN.finditer(text)]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    roles = ["user" if mark.group() == HUMAN else "assistant" for mark in marks]
    parts = [text[mark.end() : end].removeprefix(" ") for mark, end in zip(marks, ends, strict=True)]
    return tuple(map(Message, roles, parts))


def _check_pair(chosen: Messages, rejected: Messages, line: int, faults: FaultList) -> None:
    for messages in (chosen, rejected):
        before = faults.count
        check_order(messages, line, faults)
        if faults.count > before:
            return
    if chosen == rejected:
        faults.add(line, "the chosen and the rejected answer are the same", fix="take the row out")


def _with_tools(row: Row, name: str, value: Any, content: Content, faults: FaultList) -> Content:
    """The tools that the row declares in the field `name`, as JSON text in OpenAI's form."""
    if value in (None, "", [], "[]"):
        return content._replace(used=content.used | {name})
    try:
        tools = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        if content.messages and not any(message.tool_calls for message in content.messages):
            return content  # a column that happens to have this name
        expected = '[{"type": "function", "function": {...}}]'
        faults.add(row.line, f"`{name}` is no list of tools", value=short(value), expected=expected)
        return content
    listed = [found for tool in tools for found in _declared(tool)]
    text = clean_text(json.dumps(listed, ensure_ascii=False, default=str), row.line, name, faults)
    return content._replace(tools=text, used=content.used | {name})


def _declared(tool: dict[str, Any]) -> list[dict[str, Any]]:
    """One tool in OpenAI's form; Vertex lists several functions in one."""
    functions = tool.get("functionDeclarations", tool.get("function_declarations"))
    if isinstance(functions, list):
        return [{"type": "function", "function": function} for function in functions]
    return [tool] if "type" in tool or "function" in tool else [{"type": "function", "function": tool}]


def _with_flag(row: Row, dialect: Dialect, content: Content, faults: FaultList) -> Content:
    name = dialect.flag_field
    value = row.fields.get(name)
    flags = {True: True, False: False, "true": True, "false": False, "True": True, "False": False}
    flag = flags.get(value) if isinstance(value, bool | int | str) else None
    if flag is None:
        faults.add(
            row.line, f"`{name}` does not say if the answer is good", value=short(value), expected="true or false"
        )
    return content._replace(desirable=flag, used=content.used | {name})


Reader = Callable[[Row, Dialect, FaultList], Content]
READERS: dict[str, Reader] = {
    "messages": _chat,
    "sharegpt": _chat,
    "vertex": _vertex,
    "alpaca": _alpaca,
    "pair": _pair,
    "labelled": _pair,
    "text": _raw_text,
    "preference": _preference,
    "openai_dpo": _preference,
}
