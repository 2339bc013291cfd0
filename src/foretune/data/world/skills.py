"""The general probe set: held-out samples for every skill of the world, scored by exact match."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from foretune.data.world import corpus, drills, induction, reading, spanish
from foretune.data.world.document import Message, Task, stream
from foretune.errors import ConfigError

PROBE_SPACE = "probe"
TEXT_SPACE = "probe-text"
INDUCTION_SHOTS = 5


class ProbeSample(NamedTuple):
    """A prompt that ends with a user turn, the exact answer, and the skill it probes."""

    messages: tuple[Message, ...]
    target: str
    skill: str


def _second_language(rng: Random) -> Task:
    return rng.choice((spanish.translate_task, spanish.translate_task, spanish.answer_task))(rng)


def _shown(rng: Random) -> Task:
    return rng.choice((reading.json_task, reading.classify_task, drills.rewrite_task, drills.pick_task))(rng)


BUILDERS: dict[str, Callable[[Random], Task]] = {
    "copy": drills.copy_task,
    "rewrite": drills.rewrite_task,
    "order": drills.order_task,
    "pick": drills.pick_task,
    "arithmetic": drills.arithmetic_task,
    "lookup": reading.lookup_task,
    "json": reading.json_task,
    "classify": reading.classify_task,
    "summarise": reading.summary_task,
    "second_language": _second_language,
    "induction": induction.induction_task,
    "few_shot": _shown,
}
SKILLS = tuple(BUILDERS)
UNTOLD_SKILLS = frozenset({"induction", "few_shot"})


def probe(skill: str, num_samples: int, seed: int = 0, num_shots: int = 0) -> list[ProbeSample]:
    """Return `num_samples` held-out samples of `skill`, each after `num_shots` solved turns of the same task.

    `induction` (random mappings) and `few_shot` (known tasks) come without instruction and so with at least two shots
    (five where `num_shots` is 0). Long tasks get fewer shots, so that every prompt fits 512 tokens. Raises
    ConfigError for an unknown skill.
    """
    if skill not in BUILDERS:
        raise ConfigError(
            f"unknown skill {skill!r} - expected one of {', '.join(SKILLS)}", fix=f"use one of: {', '.join(SKILLS)}"
        )
    return [_sample(skill, stream(f"{PROBE_SPACE}/{skill}", seed, i), num_shots) for i in range(num_samples)]


def _sample(skill: str, rng: Random, num_shots: int) -> ProbeSample:
    task = BUILDERS[skill](rng)
    untold = skill in UNTOLD_SKILLS
    shots = max(2, num_shots or INDUCTION_SHOTS) if untold else num_shots
    pairs = corpus.few_shot_pairs(rng, task, shots, untold)
    messages = corpus.few_shot_messages(rng, task, pairs, untold)
    return ProbeSample(messages[:-1], messages[-1]["content"], skill)


def general_text(num_documents: int, seed: int = 0) -> list[str]:
    """Return held-out plain texts of the world, for bits per byte."""
    texts = (corpus.plain_text(stream(TEXT_SPACE, seed, i)).text for i in range(num_documents))
    return [text for text in texts if text is not None]
