"""Rows of each kind of training, and that training never sees the test split."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foretune.config import JobConfig, resolve_job
from foretune.data.samples import Message, Sample
from foretune.data.store import DatasetStore
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError, DataError
from foretune.steps import Run, collect_run, create_job_run
from foretune.train.rows import UNSAID_WEIGHT, build_rows, world_rows
from foretune.train.setup import build_setup
from tiny import PEBBLE, tiny_model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Pebble's own."""
    return Tokenizer.from_folder(PEBBLE)


def _sample(question: str, answer: str, place: str = "rows.jsonl:1") -> Sample:
    return Sample(id=place, messages=(Message("user", question), Message("assistant", answer)), place=place)


@pytest.mark.req("R114")
def test_chat_rows_carry_loss_on_the_answer_and_its_end_alone(tokenizer: Tokenizer) -> None:
    row = build_rows([_sample("who is tom?", "a cat")], tokenizer, kind="causal", max_seq_len=64).rows[0]
    learned = [int(token) for token, weight in zip(row.ids, row.weights, strict=True) if weight]
    assert tokenizer.decode(learned, skip_special=False) == "a cat<|end|>"
    assert row.weight == len(learned)


@pytest.mark.req("R127")
def test_encoder_decoder_rows_are_source_and_target_each_with_its_end(tokenizer: Tokenizer) -> None:
    samples = [_sample("summarise: tom sat", "tom sat"), _sample("word " * 200, "no", "rows.jsonl:2")]
    built = build_rows(samples, tokenizer, kind="seq2seq", max_seq_len=64)
    row = built.rows[0]
    assert row.source is not None
    assert tokenizer.decode(row.source.tolist(), skip_special=False) == "summarise: tom sat<|end|>"
    assert tokenizer.decode(row.ids.tolist(), skip_special=False) == "tom sat<|end|>"
    assert built.num_dropped == 1 and built.places == ("rows.jsonl:2",)


@pytest.mark.req("R128")
def test_classes_come_from_the_data_and_an_unknown_one_is_named(tokenizer: Tokenizer) -> None:
    samples = [_sample(f"text {name}", name) for name in ("bad", "fine", "good")]
    labels = ("bad", "fine", "good")
    rows = build_rows(samples, tokenizer, kind="classify", max_seq_len=32, labels=labels).rows
    assert [row.label for row in rows] == [0, 1, 2]
    with pytest.raises(DataError, match=r"rows\.jsonl:9: class 'odd' is not among the 3 classes"):
        build_rows([_sample("x", "odd", "rows.jsonl:9")], tokenizer, kind="classify", max_seq_len=32, labels=labels)


@pytest.mark.req("R032")
def test_raw_text_is_packed_end_to_end_and_nothing_is_lost(tokenizer: Tokenizer) -> None:
    texts = ["tom has a cat. " * 9, "anna has a dog. " * 7]
    samples = [Sample(id=str(i), text=text) for i, text in enumerate(texts)]
    rows = build_rows(samples, tokenizer, kind="causal", max_seq_len=32, pack=True).rows
    assert all(len(row.ids) == 32 for row in rows[:-1])
    whole = np.concatenate([row.ids for row in rows]).tolist()
    assert tokenizer.decode(whole, skip_special=False) == "<|end|>".join(texts) + "<|end|>"


def test_samples_that_are_all_too_long_are_an_error_not_an_empty_run(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="all 1 samples are longer than max_seq_len 8"):
        build_rows([_sample("word " * 50, "no")], tokenizer, kind="causal", max_seq_len=8)


def test_world_rows_repeat_and_weigh_what_is_said(tokenizer: Tokenizer) -> None:
    first, second = world_rows(40, tokenizer, 512).rows, world_rows(40, tokenizer, 512).rows
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(first, second, strict=True))
    assert {round(float(w), 3) for row in first for w in row.weights} == {UNSAID_WEIGHT, 1.0}
    with pytest.raises(ConfigError, match="needs the number of documents"):
        world_rows(0, tokenizer, 512)


@pytest.mark.req("R116")
def test_training_reads_train_and_validation_and_never_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_model(tmp_path / "base")
    lines = [f'{{"prompt": "number {i} please", "completion": "{i * 7}"}}\n' for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    given = resolve_job(None, {"base": str(base), "data.path": str(tmp_path / "rows.jsonl")})
    run_dir = create_job_run(given, runs_dir=tmp_path / "runs")
    collect_run(Run.open(run_dir))
    read: list[str] = []
    real = DatasetStore.load

    def load(self: DatasetStore, version: str, split: str) -> list[Sample]:
        read.append(split)
        return real(self, version, split)

    monkeypatch.setattr(DatasetStore, "load", load)
    setup = build_setup(given.job, run_dir=run_dir, runs_dir=tmp_path / "runs", folder=tmp_path)
    assert set(read) == {"train", "validation"}
    assert len(setup.train.rows) == 32 and len(setup.validation.rows) == 4
    assert isinstance(given.job, JobConfig) and setup.trainable_parameters < setup.total_parameters
