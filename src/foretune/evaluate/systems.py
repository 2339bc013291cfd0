"""What each system answers to the same samples: the base with its prompts, the fine-tuned model as it was trained."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from foretune.data.samples import Sample
from foretune.engine.chat import ChatEngine
from foretune.evaluate.prompts import Asked, Prompt, ask

__all__ = [
    "BASE_FEW_SHOT",
    "BASE_RETRIEVAL",
    "BASE_ZERO_SHOT",
    "CONSTANT",
    "FINE_TUNED",
    "Once",
    "Progress",
    "System",
    "answers_of",
    "answers_to",
    "constant_answer",
    "constant_system",
    "longest_answer_tokens",
    "shot_range",
]

BASE_ZERO_SHOT = "base_zero_shot"
BASE_FEW_SHOT = "base_few_shot"
FINE_TUNED = "fine_tuned"
BASE_RETRIEVAL = "base_retrieval"
CONSTANT = "constant"
CONSTANT_SHARE = 0.05  # of the training targets: a rarer answer is no floor worth showing
MOST_NEW_TOKENS = 256
SPARE_TOKENS = 8  # beyond the longest training target
KEPT_SECONDS = 20.0  # of answers that a killed evaluation may lose

Progress = Callable[[str, int, int], None]  # what is being done, samples done, samples in all
Once = Callable[[str, Callable[[], Any]], Any]  # a step's name and how to compute it -> its value, kept in a journal


class System(NamedTuple):
    """One system's answers in the order of the samples; plain values, so that they go into the journal."""

    name: str
    prompt: str
    num_shots: int
    predictions: list[str]
    seconds: float
    generated_tokens: int
    warnings: list[str]
    answer_seconds: Sequence[float] = ()  # of each answer; a batch's time is shared out evenly
    answer_costs_usd: Sequence[float | None] = ()  # of each answer; empty where nothing is billed by the answer
    missing: Sequence[int] = ()  # places without an answer, whose prediction is "" and is never scored
    gap: str = ""  # why some are missing

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> System:
        """The inverse of writing the tuple as JSON."""
        return cls(*value)

    @property
    def answered(self) -> list[int]:
        """Places of the samples that were answered."""
        absent = set(self.missing)
        return [place for place in range(len(self.predictions)) if place not in absent]


def longest_answer_tokens(chat: ChatEngine, wanted: int, train_samples: Sequence[Sample]) -> int:
    """Tokens that an answer may have: `wanted`, else the longest training target plus 8, at most 256.

    Never more than half of the context window.
    """
    if not wanted:
        targets = list({sample.target for sample in train_samples})
        longest = max((len(ids) for ids in chat.engine.tokenizer.encode_batch(targets)), default=0)
        wanted = min(longest + SPARE_TOKENS, MOST_NEW_TOKENS)
    return chat.new_tokens(wanted)


def constant_answer(train_samples: Sequence[Sample]) -> str | None:
    """The most frequent training target, None where it is less than 5 % of them: what a system without a model says."""
    counts = Counter(sample.target for sample in train_samples)
    target, count = counts.most_common(1)[0] if counts else ("", 0)
    return target if target and count >= max(2, CONSTANT_SHARE * len(train_samples)) else None


def constant_system(answer: str, num_samples: int) -> System:
    """The system that gives one answer to every sample; it costs nothing, so a model must beat it."""
    shown = answer if len(answer) <= 40 else answer[:37] + "..."
    description = f"no model: always {shown!r}, the most frequent training answer"
    return System(CONSTANT, description, 0, [answer] * num_samples, 0.0, 0, [])


def answers_of(
    name: str,
    prompt: Prompt,
    samples: Sequence[Sample],
    chat: ChatEngine,
    *,
    max_new_tokens: int,
    batch_size: int,
    on_progress: Progress | None = None,
    once: Once | None = None,
) -> System:
    """Ask a model all samples in one way; with `once` each batch of answers is kept as soon as it is there."""
    began = time.monotonic()
    asked = ask(prompt, samples, chat, max_new_tokens)
    system = answers_to(
        asked,
        chat,
        name=name,
        description=prompt.description,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
        once=once,
    )
    lowered = _lowered_warning(name, prompt, asked, chat)
    warnings = [*system.warnings, *([lowered] if lowered else [])]
    return system._replace(seconds=time.monotonic() - began, warnings=warnings)


def answers_to(
    asked: Sequence[Asked],
    chat: ChatEngine,
    *,
    name: str,
    description: str,
    max_new_tokens: int,
    batch_size: int,
    on_progress: Progress | None = None,
    once: Once | None = None,
) -> System:
    """Answers to prompts that are tokens already; that memory ran short meanwhile is a warning."""
    began, num_shrunk = time.monotonic(), len(chat.engine.shrunk)

    def reply(chosen: Sequence[int], num_done: int) -> list[tuple[str, int, float]]:
        started = time.monotonic()
        replies = chat.replies(
            [asked[place].ids for place in chosen],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            on_progress=None if on_progress is None else lambda done, _: on_progress(name, num_done + done, len(asked)),
        )
        seconds = (time.monotonic() - started) / max(1, len(chosen))
        return [(one.text, one.num_tokens, seconds) for one in replies]

    rows = _in_kept_batches(asked, batch_size, name, reply, once)
    usual_shots = Counter(one.num_shots for one in asked).most_common(1)[0][0] if asked else 0
    warning = _too_long_warning(name, asked, chat, max_new_tokens)
    shrunk = [f"{name}: {message}" for message in chat.engine.shrunk[num_shrunk:]]
    return System(
        name,
        description,
        usual_shots,
        [text for text, _, _ in rows],
        time.monotonic() - began,
        sum(count for _, count, _ in rows),
        [*([warning] if warning else []), *shrunk],
        [seconds for _, _, seconds in rows],
    )


def _in_kept_batches(
    asked: Sequence[Asked],
    batch_size: int,
    name: str,
    reply: Callable[[Sequence[int], int], list[tuple[str, int, float]]],
    once: Once | None,
) -> list[tuple[str, int, float]]:
    """Text, tokens and seconds of each answer, the longest prompts first.

    With `once` answers are kept a part at a time: one batch, then twice as many as long as that took little time, as
    the engine answers many faster than few. A part that is there already says itself how large it was.
    """
    if once is None:
        return reply(range(len(asked)), 0) if asked else []
    order = sorted(range(len(asked)), key=lambda place: -len(asked[place].ids))
    rows: list[tuple[str, int, float]] = [("", 0, 0.0)] * len(asked)
    start, size = 0, batch_size
    while start < len(order):
        kept = once(f"{name}/{start}", partial(reply, order[start : start + size], start))
        for place, (text, count, seconds) in zip(order[start : start + len(kept)], kept, strict=True):
            rows[place] = text, count, seconds
        start += len(kept)
        size = max(batch_size, len(kept) * (2 if sum(row[2] for row in kept) < KEPT_SECONDS / 2 else 1))
    return rows


def shot_range(asked: Sequence[Asked]) -> tuple[int, int]:
    """The fewest and the most examples that a prompt holds."""
    counts = [one.num_shots for one in asked] or [0]
    return min(counts), max(counts)


def _too_long_warning(name: str, asked: Sequence[Asked], chat: ChatEngine, max_new_tokens: int) -> str:
    """What to say where inputs alone do not fit; "" where all fit."""
    room = chat.room(max_new_tokens)
    num_cut = sum(room is not None and len(one.ids) > room for one in asked)
    if not num_cut:
        return ""
    return f"{name}: {num_cut} of {len(asked)} inputs are longer than the {room} tokens that fit; each kept its end"


def _lowered_warning(name: str, prompt: Prompt, asked: Sequence[Asked], chat: ChatEngine) -> str:
    fewest, most = shot_range(asked)
    if not asked or fewest >= prompt.num_shots:
        return ""
    held = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{name}: {held} instead of {prompt.num_shots} examples fit into the context of {chat.engine.max_len} tokens"
