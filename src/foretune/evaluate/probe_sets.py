"""General probes for any model: texts in many languages, sentences with one right end, instructions of a fixed form."""

# SPDX-License-Identifier: Apache-2.0
#
# probe_texts.json (ten sentences a language, each the same in all) and probe_choices.json were written for foretune. A
# choice counts as right where the right end has the lowest loss: no instruction and no chat template needed.
from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from foretune.data.languages import family_of
from foretune.data.world.skills import ProbeSample, probe

if TYPE_CHECKING:
    from foretune.engine.engine import Engine
    from foretune.engine.losses import Asked

__all__ = [
    "CHOICES",
    "FORMAT_PREFIX",
    "TEXT_PREFIX",
    "Choice",
    "choice_scores",
    "choices",
    "format_samples",
    "probe_languages",
    "probe_texts",
    "skill_language",
]

TEXT_PREFIX = "text_"  # of skills that are the loss on texts in one language
FORMAT_PREFIX = "format_"  # of skills whose answer has a form that the instruction fixes
CHOICES = "choices"
FORMATS = ("copy", "order", "pick", "lookup", "json")
MOST_FORMAT_SAMPLES = 20  # of each: other models are slow
SPOKEN = {"second_language": "es"}


@cache
def probe_texts() -> dict[str, tuple[str, ...]]:
    """The texts by language."""
    return {code: tuple(texts) for code, texts in _read("probe_texts.json").items()}


def probe_languages(declared: Sequence[str]) -> tuple[str, ...]:
    """The languages to probe: English and the declared ones, where there are texts in them or in a near relative."""
    known = {family_of(code): code for code in probe_texts()}
    found = (known.get(family_of(code)) for code in ("en", *declared))
    return tuple(dict.fromkeys(code for code in found if code))


class Choice(NamedTuple):
    """The beginning of a sentence, its right end, and wrong ones."""

    begin: str
    right: str
    wrong: tuple[str, ...]


@cache
def choices() -> tuple[Choice, ...]:
    """The sentences with one right end: facts, sense and grammar, in English."""
    return tuple(Choice(begin, right, tuple(wrong)) for begin, right, wrong in _read("probe_choices.json"))


def _read(name: str) -> Any:
    return json.loads(resources.files("foretune.evaluate").joinpath(name).read_text(encoding="utf-8"))


def choice_scores(engine: Engine) -> list[float]:
    """1 for each choice whose right end is likelier than every wrong one."""
    from foretune.engine.losses import losses_of

    rows = [_row(engine, choice.begin, end) for choice in choices() for end in (choice.right, *choice.wrong)]
    costs = iter([float(nats.sum()) for nats in losses_of(engine, rows)])
    scores = []
    for choice in choices():
        right, *wrong = (next(costs) for _ in (choice.right, *choice.wrong))
        scores.append(float(right < min(wrong)))
    return scores


def _row(engine: Engine, begin: str, end: str) -> Asked:
    """The whole sentence, asked from the first token that differs from those of its beginning."""
    from foretune.engine.losses import Asked

    start = [] if engine.tokenizer.bos_id is None else [engine.tokenizer.bos_id]
    head, whole = engine.tokenizer.encode(begin), engine.tokenizer.encode(f"{begin} {end}")
    same = next((at for at, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), min(len(head), len(whole)))
    ids = [*start, *whole]
    return Asked(ids, range(max(1, len(start) + same), len(ids)))


def format_samples(num_samples: int) -> list[ProbeSample]:
    """Short instructions whose answer has one right form: copy, order, pick, look up, write JSON; without examples."""
    count = min(num_samples, MOST_FORMAT_SAMPLES)
    found = [sample for skill in FORMATS for sample in probe(skill, count)]
    return [sample._replace(skill=f"{FORMAT_PREFIX}{sample.skill}") for sample in found]


def skill_language(skill: str) -> str:
    """The ISO code of the language that a general skill is asked in."""
    if skill.startswith(TEXT_PREFIX):
        return skill.removeprefix(TEXT_PREFIX)
    return SPOKEN.get(skill, "en")
