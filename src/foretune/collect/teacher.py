"""Answers of a larger model to your prompts, over OpenAI's chat protocol: data to distil from."""

# SPDX-License-Identifier: Apache-2.0
#
# FOLDER/NAME.jsonl           one conversation a line, each written and synced as it comes
# FOLDER/.NAME.left_out.jsonl  prompts without a whole answer, with the reason; they are not asked again
# FOLDER/source.NAME.jsonl.json  model, licence, share policy, time
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from foretune.collect.appended import append_synced, whole_lines
from foretune.collect.sources import SourceCard, write_card
from foretune.collect.web import Answer, Clock, Fetcher, parsed_object, plain_words, stamp
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError, ServeError
from foretune.records.dataset import UNKNOWN_LICENCE, Provenance
from foretune.records.lock import held_lock

__all__ = ["Teacher", "TeacherAnswers", "ask_teacher", "prompt_id"]

NOTE = "answers of a model: check that its terms allow training on them; keep prompts of the test split out"


@dataclass(frozen=True)
class Teacher:
    """Whom to ask: an address such as https://host/v1, a model, a key ("" = none), and how it is asked.

    `system` is put before prompts that have no system message; `licence` is that of the answers, by the terms of the
    provider. The key is sent, never written.
    """

    url: str
    model: str
    key: str = ""
    system: str = ""
    temperature: float = 0.0
    max_tokens: int = 1024
    licence: str = UNKNOWN_LICENCE


class TeacherAnswers(NamedTuple):
    """What came of it: the file, new and all answers in it, prompts left out by reason, tokens that were billed."""

    path: Path
    num_new: int
    num_total: int
    left_out: dict[str, int]
    num_requests: int
    prompt_tokens: int
    answer_tokens: int


def prompt_id(messages: Sequence[Message]) -> str:
    """What makes a prompt the same one: 16 hex digits of the hash of its messages."""
    text = json.dumps([message.to_json() for message in messages], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def ask_teacher(
    prompts: Iterable[Sample],
    path: Path,
    teacher: Teacher,
    *,
    clock: Clock | None = None,
    min_interval_seconds: float = 0.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> TeacherAnswers:
    """Ask for an answer to each prompt and append them to `path` as conversations; train on that with method lora.

    Each prompt is asked once, however often it stands there and however often this is called: what the file holds is
    known by its id, so a killed run goes on where it stood. Answers that were cut off, filtered or empty are left out.
    Raises ConfigError where the server refuses key, model or request, ServeError and RateLimited where it does not
    answer, DataError where the file is not ours.
    """
    wanted = _asked_messages(prompts, teacher)
    with (
        _one_run(path),
        Fetcher("the teacher", clock=clock, min_interval_seconds=min_interval_seconds, timeout_seconds=300.0) as web,
    ):
        known, left = _ids_in(path), _reasons_in(_left_out_path(path))
        new = prompt_tokens = answer_tokens = 0
        for place, (name, messages) in enumerate(wanted.items()):
            if name not in known and name not in left:
                reply = _reply(web, teacher, messages)
                prompt_tokens, answer_tokens = prompt_tokens + reply.prompt_tokens, answer_tokens + reply.answer_tokens
                if reply.why_not:
                    left[name] = reply.why_not
                    append_synced(_left_out_path(path), [{"id": name, "reason": reply.why_not}])
                else:
                    known.add(name)
                    new += 1
                    append_synced(path, [_row(name, messages, reply, teacher, stamp(web.clock.now()))])
            if on_progress is not None:
                on_progress(place + 1, len(wanted))
        if path.is_file():
            write_card(path, _card(teacher, stamp(web.clock.now())))
        counts = {reason: list(left.values()).count(reason) for reason in sorted(set(left.values()))}
        return TeacherAnswers(path, new, len(known), counts, web.num_requests, prompt_tokens, answer_tokens)


class _Reply(NamedTuple):
    text: str
    why_not: str
    prompt_tokens: int
    answer_tokens: int
    raw: str
    model: str


def _asked_messages(prompts: Iterable[Sample], teacher: Teacher) -> dict[str, tuple[Message, ...]]:
    """The different prompts by id, the teacher's system message before those that have none."""
    found: dict[str, tuple[Message, ...]] = {}
    for sample in prompts:
        messages = sample.prompt or ((Message("user", sample.text),) if sample.text else ())
        if not messages:
            raise DataError(f"{sample.place or sample.id}: no prompt to ask", fix="take the row out")
        if teacher.system and messages[0].role != "system":
            messages = (Message("system", teacher.system), *messages)
        found.setdefault(prompt_id(messages), messages)
    return found


def _reply(web: Fetcher, teacher: Teacher, messages: Sequence[Message]) -> _Reply:
    body = {
        "model": teacher.model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": teacher.temperature,
        "max_tokens": teacher.max_tokens,
    }
    headers = {"authorization": f"Bearer {teacher.key}"} if teacher.key else {}
    answer = web.post(f"{teacher.url.rstrip('/')}/chat/completions", body, headers, _judged)
    document = parsed_object(answer.text) or {}
    choice = document["choices"][0]
    text = str((choice.get("message") or {}).get("content") or "").strip()
    usage = document.get("usage") or {}
    return _Reply(
        text,
        _why_not(str(choice.get("finish_reason") or ""), text),
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        answer.text,
        str(document.get("model") or teacher.model),
    )


def _why_not(finish_reason: str, text: str) -> str:
    """Why an answer is nothing to learn from; "" where it is."""
    if finish_reason == "length":
        return "cut off at max_tokens"
    if finish_reason == "content_filter":
        return "filtered by the provider"
    return "" if text else "empty"


def _judged(answer: Answer) -> str:
    """Why to ask again; raises what asking again does not mend."""
    if answer.status == 200:
        document = parsed_object(answer.text)
        choices = document.get("choices") if document else None
        return "" if isinstance(choices, list) and choices and isinstance(choices[0], dict) else "no choices in it"
    said = _said(answer)
    if answer.status == 429 or answer.status >= 500:
        return f"status {answer.status}: {said}"
    if answer.status in (401, 403):
        raise ConfigError(f"the teacher refuses the key (status {answer.status}: {said})", fix="give a valid key")
    if answer.status == 404:
        raise ConfigError(
            f"the teacher knows no such address or model (status 404: {said})",
            fix="the address ends in /v1; GET that address + /models lists the models",
        )
    if 400 <= answer.status < 500:
        raise ConfigError(f"the teacher refuses the request (status {answer.status}: {said})", fix="mend the prompt")
    raise ServeError(f"the teacher answers with status {answer.status}: {said}", fix="check the address")


def _said(answer: Answer) -> str:
    error = (parsed_object(answer.text) or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return plain_words(str(message or answer.text))


def _row(name: str, messages: Sequence[Message], reply: _Reply, teacher: Teacher, retrieved_at: str) -> dict[str, Any]:
    provenance = Provenance(
        source=f"teacher {reply.model}",
        licence=teacher.licence,
        retrieved_at=retrieved_at,
        sha256=hashlib.sha256(reply.raw.encode("utf-8", "surrogatepass")).hexdigest(),
        url=teacher.url,
    )
    return {
        "id": name,
        "messages": [*(message.to_json() for message in messages), {"role": "assistant", "content": reply.text}],
        "teacher": {"model": reply.model, "temperature": teacher.temperature, "answer_tokens": reply.answer_tokens},
        "provenance": provenance.model_dump(),
    }


def _card(teacher: Teacher, retrieved_at: str) -> SourceCard:
    return SourceCard(
        kind="teacher",
        name=teacher.model,
        url=teacher.url,
        licence=teacher.licence,
        retrieved_at=retrieved_at,
        note=NOTE,
    )


def _left_out_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.left_out.jsonl")


def _one_run(path: Path) -> AbstractContextManager[None]:
    """One run at a time writes a file. Raises ConfigError."""
    busy = ConfigError(f"another run is asking into {path}", fix="wait until it is done")
    return held_lock(path.with_name(f".{path.name}.lock"), busy=lambda pid: busy)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that this module wrote; a last line that a killed run left half written is cut off."""
    for number, line in enumerate(whole_lines(path), start=1):
        row = parsed_object(line.decode("utf-8", "replace"))
        if row is None or "id" not in row:
            raise DataError(f"{path}:{number}: not a row that foretune wrote", fix="name another file")
        yield row


def _ids_in(path: Path) -> set[str]:
    return {str(row["id"]) for row in _lines(path)}


def _reasons_in(path: Path) -> dict[str, str]:
    return {str(row["id"]): str(row.get("reason", "")) for row in _lines(path)}
