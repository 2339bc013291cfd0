"""Tasks for annotators: choose a label, rate, write an answer, or say which of two is better."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foretune.collect.guidelines import Guidelines
from foretune.data.provenance import PROVENANCE
from foretune.data.samples import Sample
from foretune.errors import DataError
from foretune.records.dataset import Provenance

__all__ = ["Task", "answer_tasks", "comparison_tasks", "label_tasks"]

Kind = Literal["label", "rating", "answer", "comparison"]


class Task(BaseModel):
    """One thing to do: choose a label, give a rating, write an answer, or say which of two is better.

    `gold` is the answer that is known to be right, "" for most; annotators never see it. `variants` name what stands
    behind `option_a` and `option_b`. `meta` is what else is known of the row (a date, a slice), kept for the sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    kind: Kind
    guideline: str
    question: str
    input: str
    context: str = ""
    choices: tuple[str, ...] = ()
    option_a: str = ""
    option_b: str = ""
    variants: tuple[str, ...] = ()
    gold: str = ""
    source: Provenance | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


def label_tasks(
    samples: Iterable[Sample],
    labels: Sequence[str],
    guidelines: Guidelines,
    *,
    question: str = "Which label fits?",
    kind: Literal["label", "rating"] = "label",
    gold: Mapping[str, str] | None = None,
) -> list[Task]:
    """A task for each sample: choose one of `labels` (for a rating: in their order). `gold` is by sample id."""
    known = gold or {}
    tasks = [
        Task(
            id=sample.id,
            kind=kind,
            guideline=guidelines.version,
            question=question,
            input=sample.input_text,
            context=_context(sample),
            choices=tuple(labels),
            gold=known.get(sample.id, ""),
            source=_source(sample),
            meta=_meta(sample),
        )
        for sample in samples
    ]
    strange = next((task for task in tasks if task.gold and task.gold not in labels), None)
    if strange is not None:
        raise DataError(f"gold answer {strange.gold!r} of {strange.id}, expected one of {', '.join(labels)}")
    return tasks


def answer_tasks(
    samples: Iterable[Sample], guidelines: Guidelines, *, question: str = "Write the answer. Which tone has it?"
) -> list[Task]:
    """A task for each sample: write the answer to it, such as the summary of an article."""
    return [
        Task(
            id=sample.id,
            kind="answer",
            guideline=guidelines.version,
            question=question,
            input=sample.input_text,
            context=_context(sample),
            source=_source(sample),
            meta=_meta(sample),
        )
        for sample in samples
    ]


def comparison_tasks(
    answers: Mapping[str, Mapping[str, str]],
    inputs: Mapping[str, str],
    guidelines: Guidelines,
    *,
    question: str = "Which answer is better: a, b or tie?",
    seed: int = 0,
) -> list[Task]:
    """A task for each pair of variants of each item; which one is shown first is drawn by `seed`.

    `answers` is by item and variant. Pairs with equal texts are left out: there is nothing to choose.
    """
    draw = random.Random(seed)
    tasks = []
    for item, given in answers.items():
        names = sorted(given)
        for pair in [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if given[a] != given[b]]:
            first, second = pair if draw.random() < 0.5 else pair[::-1]
            tasks.append(
                Task(
                    id=f"{item}|{pair[0]}|{pair[1]}",
                    kind="comparison",
                    guideline=guidelines.version,
                    question=question,
                    input=inputs[item],
                    choices=("a", "b", "tie"),
                    option_a=given[first],
                    option_b=given[second],
                    variants=(first, second),
                )
            )
    return tasks


def _context(sample: Sample) -> str:
    """What came before the last user message."""
    earlier = [message for message in sample.prompt if message.content != sample.input_text]
    return "\n\n".join(f"{message.role}: {message.content}" for message in earlier)


def _meta(sample: Sample) -> dict[str, Any]:
    return {name: value for name, value in sample.meta.items() if name != PROVENANCE}


def _source(sample: Sample) -> Provenance | None:
    value = sample.meta.get(PROVENANCE)
    try:
        return Provenance.model_validate(value) if value else None
    except ValidationError:
        return None
