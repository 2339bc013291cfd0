"""The shapes that requests and answers have in logs, each read as one exchange of messages."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from foretune.data.samples import ROLES, Message
from foretune.records.request_log import FeedbackEntry, RequestEntry

__all__ = ["Exchange", "Feedback", "exchange_of", "feedback_of"]

ROLE_NAMES = {"function": "tool", "developer": "system", "human": "user", "ai": "assistant", "model": "assistant"}
GENERATIONS = ("GENERATION", "LLM")


class Exchange(NamedTuple):
    """One request with its answer, whoever logged it; `status` 0 = not logged, `pii` as the log says."""

    kind: str
    messages: tuple[Message, ...] = ()
    answer: str = ""
    id: str = ""
    model: str = ""
    time: str = ""
    status: int = 0
    finish_reason: str = ""
    session: str = ""
    trace: str = ""
    pii: str = "unreviewed"
    calls: str = ""  # JSON text of the answer's tool calls
    tools: str = ""  # JSON text of the tools that were offered
    place: str = ""
    sha256: str = ""

    @property
    def query(self) -> str:
        """The last thing that the user said."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def reply(self) -> Message:
        """The answer as a message."""
        return Message("assistant", self.answer, True, f'{{"tool_calls": {self.calls}}}' if self.calls else "")

    def lacks_half(self, other: Exchange) -> bool:
        """Whether one of the two has only the request and the other only the answer (batch files)."""
        return bool(self.messages) != bool(other.messages)

    def merged(self, other: Exchange) -> Exchange:
        """Request and answer from two rows put together; a repeat changes nothing."""
        if not self.lacks_half(other):
            return self
        asked, answered = (self, other) if self.messages else (other, self)
        return asked._replace(
            answer=answered.answer,
            status=answered.status,
            finish_reason=answered.finish_reason,
            calls=answered.calls,
            model=answered.model or asked.model,
        )


class Feedback(NamedTuple):
    """What was said about the answer to request `id`."""

    id: str
    rating: int = 0
    correction: str = ""
    comment: str = ""

    def after(self, earlier: Feedback | None) -> Feedback:
        """This feedback, with what only an earlier one said."""
        if earlier is None:
            return self
        return Feedback(
            self.id,
            self.rating or earlier.rating,
            self.correction or earlier.correction,
            self.comment or earlier.comment,
        )


def feedback_of(fields: Mapping[str, Any]) -> Feedback | None:
    """The feedback that a row is: our gateway's, or a Langfuse score; None if it is none."""
    if fields.get("type") == "feedback":
        try:
            entry = FeedbackEntry.model_validate(fields)
        except ValidationError:
            return None
        return Feedback(entry.id, entry.rating, entry.correction, entry.comment)
    if _get(fields, "data_type") in ("NUMERIC", "CATEGORICAL", "BOOLEAN") and "value" in fields:
        target = _text(_get(fields, "observation_id")) or _text(_get(fields, "trace_id"))
        value = fields.get("value")
        number = value if isinstance(value, int | float) else 0
        rating = (1 if number > 0 else -1) if value is not None else 0
        return Feedback(target, rating, "", _text(fields.get("comment"))) if target else None
    return None


def exchange_of(fields: Mapping[str, Any]) -> Exchange | None:
    """The exchange that a row is; None if it has no known shape."""
    if fields.get("type") == "request":
        return _gateway(fields)
    kind = fields.get("type")
    if isinstance(kind, str) and kind.upper() in GENERATIONS:
        return _langfuse(fields)
    request = _object(fields.get("request"))
    response = _object(fields.get("response"))
    if request and "body" in request:
        request = _object(request["body"])
    if not request and "body" in fields:
        request = _object(fields["body"])
    if response and "body" in response:
        response = {**response, **_object(response["body"])}
    if not request and not response and ("choices" in fields or "messages" in fields):
        request = response = dict(fields)
    if not request and not response:
        return None
    return _openai(fields, request, response)


def _gateway(fields: Mapping[str, Any]) -> Exchange | None:
    try:
        entry = RequestEntry.model_validate(fields)
    except ValidationError:
        return None
    return Exchange(
        kind="gateway",
        messages=_messages([message.model_dump() for message in entry.messages]),
        answer=entry.answer,
        id=entry.id,
        model=entry.model,
        time=entry.time,
        status=entry.status,
        finish_reason=entry.finish_reason,
        session=entry.session,
        pii=entry.pii,
    )


def _openai(fields: Mapping[str, Any], request: Mapping[str, Any], response: Mapping[str, Any]) -> Exchange:
    messages = _messages(request.get("messages", request.get("input", request.get("prompt"))))
    system = request.get("instructions")
    if isinstance(system, str) and system and messages:
        messages = (Message("system", system), *messages)
    answer = _openai_answer(response)
    status = fields.get("status_code", response.get("status_code", fields.get("status")))
    return Exchange(
        kind="openai",
        messages=messages,
        answer=answer.text,
        id=_text(fields.get("custom_id")) or _text(fields.get("id")) or _text(response.get("id")),
        model=_text(response.get("model")) or _text(request.get("model")),
        time=_text(fields.get("time") or fields.get("timestamp") or response.get("created")),
        status=_status(status, fields, response),
        finish_reason=answer.finish_reason,
        session=_text(fields.get("session") or fields.get("session_id")),
        calls=_json(answer.calls),
        tools=_json(request.get("tools")),
    )


def _status(status: Any, fields: Mapping[str, Any], response: Mapping[str, Any]) -> int:
    if isinstance(status, int):
        return status
    return 500 if fields.get("error") or response.get("error") else 0


class _Said(NamedTuple):
    """What a model said: text, tool calls in OpenAI's form, and why it stopped."""

    text: str = ""
    finish_reason: str = ""
    calls: Sequence[Any] = ()


def _openai_answer(response: Mapping[str, Any]) -> _Said:
    """The first answer of chat completions, text completions and the responses API."""
    choices = response.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        first = choices[0]
        message = _object(first.get("message"))
        text = _content(message.get("content")) if message else _text(first.get("text"))
        return _Said(text, _text(first.get("finish_reason")), _calls(message))
    output = response.get("output")
    if isinstance(output, list):
        parts = [part for part in output if isinstance(part, dict)]
        texts = [_content(part.get("content")) for part in parts if part.get("type", "message") == "message"]
        calls = [_flat_call(part) for part in parts if part.get("type") == "function_call"]
        is_cut = _object(response.get("incomplete_details")).get("reason") == "max_output_tokens"
        return _Said("".join(texts), "length" if is_cut else "", calls)
    return _Said()


def _calls(message: Mapping[str, Any]) -> Sequence[Any]:
    """Tool calls of a message, also of the old single `function_call`."""
    calls = message.get("tool_calls")
    old = message.get("function_call")
    if not calls and isinstance(old, dict):
        return [{"type": "function", "function": old}]
    return calls if isinstance(calls, list) else ()


def _flat_call(part: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": part.get("name", ""), "arguments": part.get("arguments", "")}
    return {"id": part.get("call_id", ""), "type": "function", "function": function}


def _langfuse(fields: Mapping[str, Any]) -> Exchange:
    asked, answered = _decoded(fields.get("input")), _decoded(fields.get("output"))
    tools = asked.get("tools") if isinstance(asked, dict) else None
    if isinstance(asked, dict):
        asked = asked.get("messages", asked.get("input", asked.get("prompt", asked)))
    message = answered[-1] if isinstance(answered, list) and answered else answered
    if isinstance(answered, dict) and ("choices" in answered or isinstance(answered.get("output"), list)):
        said = _openai_answer(answered)
    elif isinstance(message, dict):
        said = _Said(_content(message.get("content")), "", _calls(message))
    else:
        said = _Said(_text(message))
    return Exchange(
        kind="langfuse",
        messages=_messages(asked),
        answer=said.text,
        id=_text(fields.get("id")),
        model=_text(_get(fields, "provided_model_name") or fields.get("model")),
        time=_text(_get(fields, "start_time")),
        status=500 if _text(fields.get("level")).upper() == "ERROR" else 0,
        finish_reason=said.finish_reason,
        session=_text(_get(fields, "session_id")),
        trace=_text(_get(fields, "trace_id")),
        calls=_json(said.calls),
        tools=_json(tools),
    )


def _get(fields: Mapping[str, Any], name: str) -> Any:
    """A field by its snake_case name or its camelCase spelling."""
    head, *rest = name.split("_")
    return fields.get(name, fields.get(head + "".join(part.capitalize() for part in rest)))


def _decoded(value: Any) -> Any:
    """A value that may be JSON within a string, as exports write it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _object(value: Any) -> dict[str, Any]:
    value = _decoded(value)
    return value if isinstance(value, dict) else {}


def _messages(value: Any) -> tuple[Message, ...]:
    """Messages of a request: a list of them, or one text of the user. () where they cannot be told."""
    if isinstance(value, str):
        return (Message("user", value),) if value.strip() else ()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return ()
    if all(isinstance(part, str) for part in value):
        return (Message("user", "".join(value)),)
    found = [_message(part) for part in value]
    whole = tuple(message for message in found if message is not None)
    return whole if len(whole) == len(found) else ()


def _message(value: Any) -> Message | None:
    if not isinstance(value, dict):
        return None
    name = _text(value.get("role")).lower()
    role = ROLE_NAMES.get(name, name)
    if role not in ROLES:
        return None
    extra = {key: value[key] for key in ("tool_call_id", "name") if value.get(key)}
    if calls := _calls(value):
        extra["tool_calls"] = calls
    return Message(role, _content(value.get("content")), True, json.dumps(extra, ensure_ascii=False) if extra else "")


def _json(value: Any) -> str:
    """A list or object as JSON text; "" where there is nothing in it."""
    return json.dumps(value, ensure_ascii=False) if value and isinstance(value, list | dict) else ""


def _content(value: Any) -> str:
    """Text of a message: a string, or the text parts of a list."""
    if isinstance(value, list):
        parts = [part.get("text", "") if isinstance(part, dict) else part for part in value]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
