"""Preference methods: rows, what is refused, the reference, what is logged, and that they learn the right way round."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.config.job import AdvancedTrain, TrainConfig
from foretune.data.preference import preference_lengths
from foretune.data.samples import Message, Sample
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError, DataError
from foretune.models.adapter import attach_lora
from foretune.models.load import LoadedModel, load_model
from foretune.models.lora import adapters_off
from foretune.records.events import EventLog, read_events
from foretune.train.loop import LoopSettings, fit
from foretune.train.objective import Row
from foretune.train.preference import PreferencePasses, Weights, desirability_weights, preference_passes
from foretune.train.preference_losses import _log_odds
from foretune.train.reference import referenced
from foretune.train.rows import build_rows
from tiny import PEBBLE, tiny_model

SETTINGS = LoopSettings(
    num_steps=8, global_batch_size=4, micro_batch_size=4, max_seq_len=32, learning_rate=1e-2, warmup_steps=0,
    schedule="constant", weight_decay=0.0, max_grad_norm=1.0, eval_every=4, save_every=4, keep_checkpoints=3,
    patience=0, precision="fp32", seed=5, pad_id=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Pebble's own."""
    return Tokenizer.from_folder(PEBBLE)


def pair(question: str, better: str, worse: str, line: int = 1) -> Sample:
    """One preference pair."""
    asked = Message("user", question)
    good, poor = (asked, Message("assistant", better)), (asked, Message("assistant", worse))
    return Sample(id=f"{line}", messages=good, rejected=poor, place=f"pairs.jsonl:{line}")


def judged(question: str, answer: str, desirable: bool, line: int = 1) -> Sample:
    """One answer with its judgement."""
    messages = (Message("user", question), Message("assistant", answer))
    return Sample(id=f"{line}", messages=messages, desirable=desirable, place=f"judged.jsonl:{line}")


def some_pairs(num: int = 12) -> list[Sample]:
    """Tom is always a cat."""
    return [pair(f"what is tom {i}?", "a cat", "a dog that barks" if i % 2 else "a dog", i + 1) for i in range(num)]


def rows_for(method: str, samples: list[Sample], tokenizer: Tokenizer, max_seq_len: int = 64) -> list[Row]:
    """Training rows of a method."""
    return build_rows(samples, tokenizer, kind="causal", max_seq_len=max_seq_len, method=method).rows


def adapted(tmp_path: Path, dropout: float = 0.0) -> LoadedModel:
    """A tiny Llama with LoRA on every layer."""
    folder = tmp_path / "base"
    loaded = load_model(folder if folder.exists() else tiny_model(folder), pad_id=0)
    attach_lora(loaded, rank=4, alpha=8, dropout=dropout, target_modules=("all-linear",))
    return loaded


def passes_for(method: str, loaded: LoadedModel, **advanced: float) -> PreferencePasses:
    """The passes of a method."""
    train = TrainConfig(method=method, advanced=AdvancedTrain(**advanced))  # type: ignore[arg-type]
    return preference_passes(loaded, train, weights=Weights(), precision="fp32", pad_id=0)


@pytest.mark.req("R114")
def test_both_answers_carry_loss_behind_the_same_prompt(tokenizer: Tokenizer) -> None:
    (row,) = rows_for("dpo", [pair("who is tom?", "a cat", "a dog that barks")], tokenizer)
    assert row.preference is not None and row.is_pair and row.weight == 1.0

    def learned(ids: np.ndarray, weights: np.ndarray) -> str:
        return tokenizer.decode([int(i) for i, w in zip(ids, weights, strict=True) if w], skip_special=False)

    assert learned(row.ids, row.weights) == "a cat<|end|>"
    assert learned(row.preference.ids, row.preference.weights) == "a dog that barks<|end|>"
    start = int(np.argmax(row.weights))
    assert list(row.ids[:start]) == list(row.preference.ids[:start])
    assert row.num_tokens == len(row.ids) + len(row.preference.ids) and row.length == len(row.preference.ids)


def test_only_what_follows_the_common_turns_is_learned(tokenizer: Tokenizer) -> None:
    turns = (Message("user", "hello"), Message("assistant", "hi there"), Message("user", "who is tom?"))
    good, poor = (*turns, Message("assistant", "a cat")), (*turns, Message("assistant", "a dog"))
    (row,) = rows_for("dpo", [Sample(id="1", messages=good, rejected=poor)], tokenizer)
    learned = [int(i) for i, w in zip(row.ids, row.weights, strict=True) if w]
    assert tokenizer.decode(learned, skip_special=False) == "a cat<|end|>"


def test_faulty_pairs_are_all_named_with_their_lines(tokenizer: Tokenizer) -> None:
    samples = [*some_pairs(2), pair("x?", "same", "same", 7), judged("y?", "no pair", True, 9)]
    with pytest.raises(DataError) as caught:
        rows_for("dpo", samples, tokenizer)
    assert "pairs.jsonl:7" in str(caught.value) and "judged.jsonl:9" in str(caught.value)
    assert len(caught.value.faults) == 2
    plain = Sample(id="z", messages=(Message("user", "a"), Message("assistant", "b")), place="plain.jsonl:3")
    with pytest.raises(DataError, match=r"plain\.jsonl:3: nothing says whether the answer is good"):
        rows_for("kto", [plain], tokenizer)


def test_an_answer_judged_poor_is_never_learned_as_if_it_were_good(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"judged\.jsonl:2: the answer is judged poor") as caught:
        rows_for("lora", [judged("a?", "b", True), judged("c?", "d", False, 2)], tokenizer)
    assert 'train.method = "kto"' in str(caught.value)


def test_pairs_too_long_on_either_side_are_left_out_and_counted(tokenizer: Tokenizer) -> None:
    samples = [pair("who?", "tom", "a dog " * 40, 1), pair("who?", "tom", "a dog", 2)]
    built = build_rows(samples, tokenizer, kind="causal", max_seq_len=32, method="dpo")
    assert len(built.rows) == 1 and built.num_dropped == 1 and built.places == ("pairs.jsonl:1",)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_the_plan_counts_the_rows_that_training_sees(method: str, tokenizer: Tokenizer) -> None:
    samples = some_pairs(5)
    rows = rows_for(method, samples, tokenizer)
    counted = preference_lengths(method, samples, tokenizer, max_seq_len=64)
    assert counted.tokens == [row.length for row in rows]
    assert all(np.array_equal(ids, row.ids) for ids, row in zip(counted.ids, rows, strict=True))
    others = [row.preference.ids for row in rows if row.preference] if method != "kto" else []
    assert all(np.array_equal(*both) for both in zip(counted.others, others, strict=True))
    assert max(counted.answers) >= max(int(row.weights.sum()) for row in rows)


def test_kto_rows_hold_their_prompt_with_the_answer_of_the_row_before(tokenizer: Tokenizer) -> None:
    rows = rows_for("kto", [judged("a?", "one", True), judged("b?", "two", False, 2)], tokenizer)
    other = rows[1].preference
    assert other is not None and other.is_desirable is False and not rows[1].is_pair
    assert tokenizer.decode([int(i) for i, w in zip(other.ids, other.weights, strict=True) if w]) == "one"
    start = int(np.argmax(rows[1].weights))
    assert list(other.ids[:start]) == list(rows[1].ids[:start])


def test_the_reference_is_the_model_with_its_adapter_off(tokenizer: Tokenizer, tmp_path: Path) -> None:
    loaded = adapted(tmp_path, dropout=0.1)
    passes, rows = passes_for("dpo", loaded), rows_for("dpo", some_pairs(5), tokenizer)
    before = [row.preference.reference for row in passes.with_reference(rows, 1000) if row.preference]
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    with adapters_off(loaded.model):
        off = [row.preference.reference for row in passes.with_reference(rows, 50) if row.preference]
    on = [row.preference.reference for row in passes.with_reference(rows, 50) if row.preference]
    assert np.allclose(before, off, atol=1e-4) and not np.allclose(before, on, atol=0.1)


def test_the_reference_is_computed_once_a_run_and_never_for_other_rows(tokenizer: Tokenizer, tmp_path: Path) -> None:
    loaded = adapted(tmp_path)
    passes, rows = passes_for("dpo", loaded), rows_for("dpo", some_pairs(4), tokenizer)
    first = referenced(passes, rows, budget_tokens=64, run_dir=tmp_path, key="a")
    with torch.no_grad():
        next(p for n, p in loaded.model.named_parameters() if n.endswith("lora_b")).fill_(1.0)
    again = referenced(passes, rows, budget_tokens=64, run_dir=tmp_path, key="a")
    other = referenced(passes, rows, budget_tokens=64, run_dir=tmp_path, key="b")

    def references(found: list[Row]) -> list[tuple[float, float]]:
        return [row.preference.reference for row in found if row.preference]

    assert references(again) == references(first) != references(other)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_training_moves_the_model_to_the_better_answers_and_says_how_far(
    method: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    loaded = adapted(tmp_path)
    passes = passes_for(method, loaded)
    rows = rows_for(method, some_pairs(12), tokenizer)
    rows = rows if method == "orpo" else passes.with_reference(rows, 1000)
    with EventLog(tmp_path / "run") as events:
        fit(
            loaded, rows[:-4], rows[-4:], passes, SETTINGS, events=events, checkpoints=tmp_path / "run/checkpoints",
            run_key="key",
        )  # fmt: skip
    evals = [event for event in read_events(tmp_path / "run") if event["kind"] == "eval"]
    steps = [event for event in read_events(tmp_path / "run") if event["kind"] == "step"]
    assert evals[-1]["eval_loss"] < evals[0]["eval_loss"]
    assert evals[-1]["reward_margin"] > max(0.0, evals[0]["reward_margin"])
    assert evals[-1]["reward_accuracy"] == 1.0
    assert {"reward_margin", "reward_accuracy"} <= set(steps[-1])
    if method == "dpo":
        assert evals[0]["eval_loss"] == pytest.approx(math.log(2), rel=1e-5)  # nothing has moved yet
        assert evals[0]["reward_margin"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
@pytest.mark.req("R223")
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(method: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    loaded = adapted(tmp_path)
    passes = passes_for(method, loaded)
    rows = passes.with_reference(rows_for(method, some_pairs(7), tokenizer), 1000)
    with torch.no_grad():  # the model has moved since the reference, so that KTO's drift counts
        for name, parameter in loaded.model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    found = []
    for budget in (1, 60, 10_000):
        loaded.model.zero_grad()
        for micro in passes.cut(rows, budget):
            micro.loss().loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in loaded.model.parameters() if p.grad is not None]))
    assert float((found[0] - found[2]).norm() / found[2].norm()) < 1e-5
    assert float((found[1] - found[2]).norm() / found[2].norm()) < 1e-5


def test_odds_are_right_near_certainty_and_near_impossibility() -> None:
    values = torch.tensor([-1e-4, -0.3, -0.69, -0.7, -5.0, -30.0], dtype=torch.float64)
    exact = values - torch.log(-torch.expm1(values))
    assert torch.allclose(_log_odds(values.float()).double(), exact, rtol=1e-4)
    certain = torch.zeros(1, requires_grad=True)
    _log_odds(certain).sum().backward()
    assert certain.grad is not None and bool(torch.isfinite(certain.grad).all())


def test_rare_judgements_count_as_much_as_common_ones(tokenizer: Tokenizer) -> None:
    def rows(good: int, poor: int) -> list[Row]:
        samples = [judged(f"q{i}?", "yes", i < good, i) for i in range(good + poor)]
        return rows_for("kto", samples, tokenizer)

    assert desirability_weights(rows(4, 4)) == Weights(1.0, 1.0) == desirability_weights(rows(4, 3))
    assert desirability_weights(rows(2, 6)) == Weights(3.0, 1.0)
    assert desirability_weights(rows(6, 2)) == Weights(1.0, 3.0)
    assert desirability_weights(rows(3, 0)) == Weights(1.0, 1.0)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    loaded = load_model(tiny_model(tmp_path / "t5", "t5"), pad_id=0)
    with pytest.raises(ConfigError, match="method dpo needs a decoder-only base"):
        passes_for("dpo", loaded)


def test_a_batch_of_pairs_is_cut_by_both_sequences(tokenizer: Tokenizer, tmp_path: Path) -> None:
    passes, rows = passes_for("orpo", adapted(tmp_path)), rows_for("orpo", some_pairs(8), tokenizer)
    longest = max(row.length for row in rows)
    micros = list(passes.cut(rows, 4 * longest))
    assert all(micro.num_tokens <= 4 * longest for micro in micros)
    assert Counter(len(micro.rows) for micro in micros)[2] >= 3
    assert replace(SETTINGS, micro_batch_size=1).budget_tokens == 32
