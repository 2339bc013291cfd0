"""A sample as a row of any known form; what the form cannot hold is refused, never lost."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foretune.data.content import Content, row_content
from foretune.data.dialect import Dialect, recognise
from foretune.data.faults import FaultList
from foretune.data.row import Row
from foretune.data.samples import Message, Sample, common_length
from foretune.errors import ConfigError, DataError

__all__ = ["FORMS", "GROUP_FIELD", "proved_row", "sample_row"]

GROUP_FIELD = "group"
CARRIED = ("id", GROUP_FIELD)
Fields = dict[str, Any]


def sample_row(sample: Sample, form: str) -> Fields:
    """The sample as a row of `form` (one of FORMS), with its id, group and meta in fields of their own.

    Raises ConfigError for an unknown form, DataError where the form has no place for the sample. It does not look
    whether everything has found its place: `proved_row` does.
    """
    if form not in FORMS:
        raise ConfigError(f"unknown form {form!r}, expected {', '.join(FORMS)}", fix="choose one of these forms")
    if sample.is_text != (form == "text"):
        what = "raw text" if sample.is_text else "a conversation"
        raise _refusal(sample, form, what)
    if bool(sample.rejected) != (form in ("preference", "openai_dpo")):
        raise _refusal(sample, form, "a rejected answer" if sample.rejected else "one answer alone")
    row = FORMS[form][1](sample)
    if sample.desirable is not None and form != "kto":
        row["kto_tag"] = sample.desirable
    carried = {"id": sample.id, **({GROUP_FIELD: sample.group} if sample.group else {}), **_written_meta(sample)}
    taken = sorted(set(carried) & set(row)) + sorted(set(sample.meta) & set(CARRIED))
    if taken:
        raise _refusal(sample, form, f"meta named {taken[0]!r}, as one of its own fields")
    return {**row, **carried}


def _written_meta(sample: Sample) -> Fields:
    return {key: value for key, value in sample.meta.items() if value is not None and value != ""}


def proved_row(sample: Sample, form: str) -> Fields:
    """The row, proved by reading it back: it is recognised as this form and says all that the sample says.

    Raises ConfigError, and DataError naming what the form cannot hold.
    """
    row = sample_row(sample, form)
    dialect = FORMS[form][0]
    whole = Row(1, row)
    found = recognise([whole])
    expected = dialect._replace(flag_field="kto_tag") if "kto_tag" in row else dialect
    if found is None or not _is_same_form(found, expected):
        raise _refusal(sample, form, f"fields that read as {found.shown if found else 'nothing known'}")
    faults = FaultList("row")
    content = row_content(whole, found, faults)
    if content is None:
        raise _refusal(sample, form, faults.faults[0].what)
    lost = _lost(sample, content, row)
    if lost:
        raise _refusal(sample, form, lost)
    return row


def _is_same_form(found: Dialect, expected: Dialect) -> bool:
    names = ("input_field", "target_field", "flag_field")
    return found.form == expected.form and all(getattr(found, n) == getattr(expected, n) for n in names)


def _lost(sample: Sample, content: Content, row: Mapping[str, Any]) -> str:
    """What of the sample the row does not say; "" if nothing."""
    if _canonical(sample.messages) != _canonical(content.messages):
        return _difference(sample.messages, content.messages)
    if _canonical(sample.rejected) != _canonical(content.rejected):
        return _difference(sample.rejected, content.rejected)
    if sample.text != content.text:
        return "this text"
    if (json.loads(sample.tools) if sample.tools else []) != (json.loads(content.tools) if content.tools else []):
        return "these tools"
    if sample.desirable != content.desirable:
        return "whether the answer is desirable"
    rest = {key: value for key, value in row.items() if key not in content.used and key not in CARRIED}
    return "this meta" if rest | content.meta != _written_meta(sample) else ""


def _canonical(messages: Sequence[Message]) -> list[Any]:
    """Messages as values that are equal where they mean the same: JSON arguments by what they say."""
    return [_canonical_message(message) for message in messages]


def _canonical_message(message: Message) -> Any:
    if not message.extra:
        return message
    extras = message.extras
    if "tool_calls" in extras:
        extras["tool_calls"] = [_canonical_call(call) for call in message.tool_calls]
    return (message.role, message.content, message.learn, extras)


def _canonical_call(call: Mapping[str, Any]) -> Any:
    function = call["function"]
    return (call.get("id"), function["name"], json.loads(function["arguments"]))


def _difference(ours: Sequence[Message], read: Sequence[Message]) -> str:
    if len(ours) != len(read):
        return f"{len(ours)} messages in this order"
    pairs = zip(_canonical(ours), _canonical(read), strict=True)
    at = next(number for number, (left, right) in enumerate(pairs) if left != right)
    left, right = ours[at], read[at]
    names = ("role", "content", "learn", "extra")
    what = next((name for name in names if getattr(left, name) != getattr(right, name)), "content")
    shown = {"learn": "weight", "extra": ", ".join(left.extras) or "extra fields"}.get(what, what)
    return f"the {shown} of message {at + 1}"


def _refusal(sample: Sample, form: str, what: str) -> DataError:
    place = sample.place or f"sample {sample.id}"
    return DataError(
        f"{place}: {form} cannot hold {what}", fix="convert to messages, which holds most, or leave it out"
    )


def _plain(messages: Sequence[Message]) -> bool:
    return all(message.learn and not message.extra for message in messages)


def _messages(sample: Sample) -> Fields:
    return {"messages": _turns(sample.messages), **_tools(sample)}


def _turns(messages: Sequence[Message]) -> list[Fields]:
    return [message.to_json() for message in messages]


def _tools(sample: Sample) -> Fields:
    return {"tools": json.loads(sample.tools)} if sample.tools else {}


def _single(sample: Sample, form: str) -> tuple[Fields, str, str]:
    """System field, question and answer of a conversation of one turn."""
    messages = sample.messages
    system = {"system": messages[0].content} if messages[0].role == "system" else {}
    turns = messages[1:] if system else messages
    if [message.role for message in turns] != ["user", "assistant"] or not _plain(messages) or sample.tools:
        raise _refusal(sample, form, "more than one plain question and answer")
    return system, turns[0].content, turns[1].content


def _prompt_completion(sample: Sample) -> Fields:
    border = sample.last_answer
    prompt, completion = sample.messages[:border], sample.messages[border:]
    if [message.role for message in sample.messages] == ["user", "assistant"] and _plain(sample.messages):
        return {"prompt": prompt[0].content, "completion": completion[0].content, **_tools(sample)}
    return {"prompt": _turns(prompt), "completion": _turns(completion), **_tools(sample)}


def _kto(sample: Sample) -> Fields:
    if sample.desirable is None:
        raise _refusal(sample, "kto", "an answer without a judgement")
    return {**_prompt_completion(sample), "label": sample.desirable}


def _seq2seq(sample: Sample) -> Fields:
    system, source, target = _single(sample, "seq2seq")
    return {**system, "source": source, "target": target}


def _classification(sample: Sample) -> Fields:
    system, text, label = _single(sample, "classification")
    return {**system, "text": text, "label": label}


def _alpaca(sample: Sample) -> Fields:
    messages = sample.messages
    system = {"system": messages[0].content} if messages[0].role == "system" else {}
    turns = messages[1:] if system else messages
    if len(turns) % 2 or not _plain(messages):
        raise _refusal(sample, "alpaca", "other than pairs of plain questions and answers")
    texts = [message.content for message in turns]
    history = {"history": [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]} if texts[2:] else {}
    instruction, extra = texts[-2], ""
    at = sample.meta.get("input_at")
    if isinstance(at, int) and instruction[at : at + 2] == "\n\n":
        instruction, extra = instruction[:at], instruction[at + 2 :]
    return {**system, "instruction": instruction, "input": extra, "output": texts[-1], **history, **_tools(sample)}


def _sharegpt(sample: Sample) -> Fields:
    tools = {"tools": sample.tools} if sample.tools else {}
    return {"conversations": [_sharegpt_turn(message) for message in sample.messages], **tools}


def _sharegpt_turn(message: Message) -> Fields:
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    extras = message.extras
    turn = {"from": names.get(message.role, message.role), "value": message.content}
    if message.tool_calls and not message.content:
        calls = [_bare_call(call) for call in extras.pop("tool_calls")]
        value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
        turn = {"from": "function_call", "value": value}
    return {**turn, **extras, **({} if message.learn else {"weight": 0})}


def _bare_call(call: Mapping[str, Any]) -> Fields:
    head = {"id": call["id"]} if call.get("id") else {}
    return {**head, "name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}


def _vertex(sample: Sample) -> Fields:
    messages = sample.messages
    system = {"systemInstruction": {"parts": [{"text": messages[0].content}]}} if messages[0].role == "system" else {}
    turns = messages[1:] if system else messages
    functions = [tool.get("function", tool) for tool in json.loads(sample.tools)] if sample.tools else []
    tools = {"tools": [{"functionDeclarations": functions}]} if functions else {}
    return {**system, "contents": [_vertex_turn(message) for message in turns], **tools}


def _vertex_turn(message: Message) -> Fields:
    if message.role == "tool":
        response = {"name": message.extras.get("name"), "response": _vertex_response(message.content)}
        return {"role": "user", "parts": [{"functionResponse": response}]}
    parts: list[Fields] = [{"text": message.content}] if message.content or not message.tool_calls else []
    for call in message.tool_calls:
        function = call["function"]
        parts.append({"functionCall": {"name": function["name"], "args": json.loads(function["arguments"])}})
    return {"role": "model" if message.role == "assistant" else message.role, "parts": parts}


def _vertex_response(content: str) -> Any:
    """Vertex wants an object: the content where it spells one, else the content as its only field."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"content": content}


def _preference(sample: Sample) -> Fields:
    border = common_length(sample)
    parts = (sample.messages[:border], sample.messages[border:], sample.rejected[border:])
    roles = [[message.role for message in part] for part in parts]
    if roles == [["user"], ["assistant"], ["assistant"]] and all(map(_plain, parts)):
        prompt, chosen, rejected = (part[0].content for part in parts)
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **_tools(sample)}
    prompt_turns, chosen_turns, rejected_turns = map(_turns, parts)
    return {"prompt": prompt_turns, "chosen": chosen_turns, "rejected": rejected_turns, **_tools(sample)}


def _openai_dpo(sample: Sample) -> Fields:
    border = common_length(sample)
    return {
        "input": {"messages": _turns(sample.messages[:border]), **_tools(sample)},
        "preferred_output": _turns(sample.messages[border:]),
        "non_preferred_output": _turns(sample.rejected[border:]),
    }


def _text(sample: Sample) -> Fields:
    return {"text": sample.text}


Writer = Callable[[Sample], Fields]
FORMS: dict[str, tuple[Dialect, Writer]] = {
    "messages": (Dialect("messages", "messages"), _messages),
    "prompt_completion": (Dialect("pair", "prompt", "completion"), _prompt_completion),
    "alpaca": (Dialect("alpaca", "instruction", "output", "input"), _alpaca),
    "sharegpt": (Dialect("sharegpt", "conversations"), _sharegpt),
    "vertex": (Dialect("vertex", "contents"), _vertex),
    "preference": (Dialect("preference", "prompt", "chosen", "rejected"), _preference),
    "openai_dpo": (Dialect("openai_dpo", "input", "preferred_output", "non_preferred_output"), _openai_dpo),
    "kto": (Dialect("pair", "prompt", "completion", flag_field="label"), _kto),
    "classification": (Dialect("labelled", "text", "label"), _classification),
    "seq2seq": (Dialect("pair", "source", "target"), _seq2seq),
    "text": (Dialect("text", "text"), _text),
}
