"""Which known form the rows of a file have, told from the names of their fields."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from foretune.data.row import Row

__all__ = ["CHATS", "CHOSEN", "KNOWN_FORMS", "LABELS", "LOOKED_AT", "PREFERENCES", "Dialect", "listed", "recognise"]

KNOWN_FORMS = (
    "messages | prompt + completion | input + output | question + answer | instruction (+ input) + output | "
    "conversations | contents (Vertex) | chosen + rejected | input + preferred_output + non_preferred_output | "
    "prompt + completion + label (true/false) | text + label | text"
)
TARGETS: dict[str, tuple[str, ...]] = {
    "completion": ("prompt", "input"),
    "output": ("input", "prompt", "text", "query", "question", "text_input"),
    "response": ("prompt", "instruction", "query", "question", "input", "context"),
    "answer": ("question", "query", "input", "prompt"),
    "generation": ("prompt",),
    "target": ("source", "input", "text", "prompt"),
    "output_text": ("input_text",),
    "message_2": ("message_1",),
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
CHOSEN = {"chosen": "rejected", "chosen_response": "rejected_response"}
PREFERENCE_PROMPTS = ("prompt", "question", "instruction", "input", "query")
ALPACA = (("instruction", "input", "output"), ("instruction", "context", "response"))  # the second is Dolly's
PREFERENCES = ("preference", "openai_dpo")
LOOKED_AT = 200  # rows that decide on the form of a file


class Dialect(NamedTuple):
    """The form of a file's rows; the fields are those of input and target, or of the conversation.

    `second_field` is Alpaca's input or the rejected answer; `flag_field` says whether an answer is desirable (KTO).
    """

    form: str  # messages, sharegpt, vertex, alpaca, pair, labelled, text, preference or openai_dpo
    input_field: str
    target_field: str = ""
    second_field: str = ""
    flag_field: str = ""

    @property
    def shown(self) -> str:
        """How the form is told to the user: `prompt/completion pairs`."""
        if self.flag_field:
            return f"{self._replace(flag_field='').shown}, desirable or not ({self.flag_field})"
        if self.form in ("pair", "labelled"):
            what = "pairs" if self.form == "pair" else "labelled text"
            return f"{self.input_field}/{self.target_field} {what}"
        if self.form == "preference":
            prompt = f"{self.input_field} + " if self.input_field else ""
            return f"preference pairs ({prompt}{self.target_field}/{self.second_field})"
        names = {"text": f"raw text ({self.input_field})", "openai_dpo": "preference pairs (OpenAI)"}
        return names.get(self.form, self.form)


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
        return _raw_text(fields)
    found = _preference(fields) or _chat(fields) or _pair(fields) or _raw_text(fields)
    if found is not None and "kto_tag" in fields:
        return found._replace(flag_field="kto_tag")
    return found


def _raw_text(fields: Mapping[str, Any]) -> Dialect | None:
    return next((Dialect("text", name) for name in TEXTS if name in fields), None)


def _preference(fields: Mapping[str, Any]) -> Dialect | None:
    if "preferred_output" in fields and "non_preferred_output" in fields and "input" in fields:
        return Dialect("openai_dpo", "input", "preferred_output", "non_preferred_output")
    for chosen, rejected in CHOSEN.items():
        if chosen in fields and rejected in fields:
            chats = (name for name in CHATS if isinstance(fields.get(name), list))
            prompt = next((name for name in (*chats, *PREFERENCE_PROMPTS) if name in fields), "")
            return Dialect("preference", prompt, chosen, rejected)
    if "prompt" in fields and "completion" in fields and _is_flag(fields.get("label")):
        return Dialect("pair", "prompt", "completion", flag_field="label")
    return None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))


def _chat(fields: Mapping[str, Any]) -> Dialect | None:
    contents = listed(fields.get("contents"))
    if isinstance(contents, list) and contents and isinstance(contents[0], dict) and "parts" in contents[0]:
        return Dialect("vertex", "contents")
    for name in CHATS:
        turns = listed(fields.get(name))
        if isinstance(turns, list):
            return Dialect("sharegpt" if _has_from(turns) else "messages", name)
    return None


def listed(value: Any) -> Any:
    """The list that a table (CSV, Parquet) spells as JSON text; any other value as it is."""
    if not isinstance(value, str) or not value.startswith("[{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _has_from(messages: list[Any]) -> bool:
    return bool(messages) and isinstance(messages[0], dict) and "from" in messages[0]


def _pair(fields: Mapping[str, Any]) -> Dialect | None:
    for instruction, extra, output in ALPACA:
        if instruction in fields and output in fields and (extra in fields or output == "output"):
            return Dialect("alpaca", instruction, output, extra)
    labels = (name for name in LABELS if name in fields)
    for target, sources in (*TARGETS.items(), *((name, LABELLED_TEXTS) for name in labels)):
        source = next((name for name in sources if name in fields), "")
        if source and target in fields:
            return Dialect("labelled" if target in LABELS else "pair", source, target)
    return None
