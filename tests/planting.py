"""Plants one fault in a share of answers and scores how well a check finds it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from foretune.audit.subject import Subject
from foretune.data.samples import Message, Sample
from foretune.records.audit import Finding

Fault = Callable[[str, random.Random], str]


class Score(NamedTuple):
    recall: float
    precision: float


def chats(answers: Sequence[str], questions: Sequence[str] = ()) -> list[Sample]:
    asked = questions or [f"Question {n}" for n in range(len(answers))]
    return [
        Sample(str(n), (Message("user", question), Message("assistant", answer)), place=f"d:{n}")
        for n, (question, answer) in enumerate(zip(asked, answers, strict=True))
    ]


def subject_of(samples: Sequence[Sample], task: str = "chat") -> Subject:
    return Subject({"train": samples}, task=task, tokenizer=None, max_seq_len=0)


def planted(
    check: Callable[[Subject], list[Finding]],
    answers: Sequence[str],
    fault: Fault,
    rate: float,
    *,
    task: str = "chat",
    seed: int = 0,
) -> Score:
    """Recall and precision of the rows that `check` names, with the fault in a share `rate` of the rows it can hit."""
    rng = random.Random(seed)
    able = [n for n, answer in enumerate(answers) if fault(answer, random.Random(1)) != answer]
    chosen = set(rng.sample(able, max(1, int(rate * len(able)))))
    texts = [fault(answer, rng) if n in chosen else answer for n, answer in enumerate(answers)]
    named = {int(row) for finding in check(subject_of(chats(texts), task)) for row in finding.sample_ids}
    return Score(len(named & chosen) / len(chosen), len(named & chosen) / max(len(named), 1))
