"""Facts of the rows that training saw: each fault moves its own number, and no other."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from byte_tokenizer import write_tokenizer
from foretune.data.samples import Message, Sample
from foretune.data.tokenise import tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.train.audited import Audited
from foretune.train.objective import Row
from foretune.train.row_facts import RowFacts, row_facts


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.from_folder(write_tokenizer(tmp_path))


def samples() -> list[Sample]:
    """Ten questions with answers of a sentence."""
    return [
        Sample(
            f"s{n}",
            (Message("user", f"What is the colour of thing {n}?"), Message("assistant", f"Thing {n} is quite blue.")),
            place=f"rows.jsonl:{n + 1}",
        )
        for n in range(10)
    ]


def facts(tokenizer: Tokenizer, rows: list[Row], **options: object) -> RowFacts:
    """The facts of rows of `samples()`."""
    return row_facts(Audited(tokenizer, "causal", "lora", "assistant", rows, samples=samples(), **options))  # type: ignore[arg-type]


def sound(tokenizer: Tokenizer) -> list[Row]:
    found = [tokenise(sample, tokenizer) for sample in samples()]
    return [Row(np.array(one.ids), np.array(one.loss_mask, dtype=np.float32)) for one in found]


def test_sound_rows_end_and_are_whole(tokenizer: Tokenizer) -> None:
    assert facts(tokenizer, sound(tokenizer)) == RowFacts(1.0, 0.0, 0.0)


def test_rows_without_a_trained_end_are_counted(tokenizer: Tokenizer) -> None:
    """The end stands there in four rows and carries no loss."""
    rows = sound(tokenizer)
    for row in rows[:4]:
        row.weights[np.flatnonzero(row.weights)[-1]] = 0
        row.weights[np.isin(row.ids, tokenizer.stop_ids)] = 0
    assert facts(tokenizer, rows) == RowFacts(0.6, 0.0, 0.0)


def test_cut_rows_are_counted(tokenizer: Tokenizer) -> None:
    """Three rows end in the middle of their answer."""
    rows = sound(tokenizer)
    rows[:3] = [Row(row.ids[:-12], row.weights[:-12]) for row in rows[:3]]
    assert facts(tokenizer, rows) == RowFacts(0.7, 0.3, 0.0)


def test_prompts_that_carry_loss_are_counted(tokenizer: Tokenizer) -> None:
    """Half of the rows learn everything."""
    rows = sound(tokenizer)
    rows[:5] = [Row(row.ids, np.ones_like(row.weights)) for row in rows[:5]]
    assert facts(tokenizer, rows) == RowFacts(1.0, 0.0, 0.5)


def test_what_has_no_answers_has_no_facts(tokenizer: Tokenizer) -> None:
    """Raw text has none; a head for classes neither ends nor is cut."""
    rows = sound(tokenizer)
    assert row_facts(Audited(tokenizer, "causal", "pretrain", "all", rows, samples=samples())) == RowFacts()
    assert row_facts(Audited(tokenizer, "causal", "lora", "assistant", rows)) == RowFacts()
    assert row_facts(Audited(tokenizer, "classify", "classify", "assistant", rows)) == RowFacts(1.0, 0.0)
