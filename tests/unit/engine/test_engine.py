"""The engine: order, batches, memory, stop tokens, classes, loss on text, and what it loads."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from foretune.engine.engine import Engine, decode_seconds, load_engine
from foretune.errors import DoesNotFit, NotFound
from foretune.models.adapter import attach_lora, attach_soft_prompt
from foretune.models.generate_slots import Slots
from foretune.models.load import load_model
from foretune.models.save import save_artefact
from tiny import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def engine(base: Path) -> Engine:
    return load_engine(base)


PROMPTS = [[11, 12, 13], [400, 401, 402, 403, 404, 405], [77]]


def test_answers_keep_the_order_of_the_prompts(engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    together = engine.generate(
        PROMPTS, max_new_tokens=4, batch_size=2, on_progress=lambda done, total: seen.append((done, total))
    )
    assert together == [engine.generate([prompt], max_new_tokens=4)[0] for prompt in PROMPTS]
    assert seen == [(1, 3), (2, 3), (3, 3)] and engine.generate([], max_new_tokens=4) == []


def test_a_stop_token_ends_an_answer_and_is_not_part_of_it(engine: Engine) -> None:
    engine.tokenizer.stop_ids = ()
    free = engine.generate(PROMPTS, max_new_tokens=5)
    engine.tokenizer.stop_ids = (free[0][0],)
    assert engine.generate(PROMPTS, max_new_tokens=5)[0] == []


def no_slots_for(most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A machine whose memory holds at most `most` rows of answers."""
    made = Slots.__init__

    def small_machine(self: Slots, heads: Any, shared: Any, num_slots: int, num_tokens: int) -> None:
        sizes.append(num_slots)
        if num_slots > most:
            raise error
        made(self, heads, shared, num_slots, num_tokens)

    monkeypatch.setattr(Slots, "__init__", small_machine)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: no memory")]
)
def test_a_batch_that_does_not_fit_is_halved_and_it_is_said_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    prompts = [[number + 30, *PROMPTS[1]] for number in range(8)]
    expected = engine.generate(prompts, max_new_tokens=3)
    sizes: list[int] = []
    no_slots_for(2, sizes, monkeypatch, error)
    assert engine.generate(prompts, max_new_tokens=3, batch_size=8) == expected
    assert sizes == [8, 4, 2]
    assert [said.rpartition("batch size")[2] for said in engine.said] == [" is now 4", " is now 2"]
    assert engine.generate(prompts, max_new_tokens=3, batch_size=4) == expected
    assert len(engine.said) == 2


def test_where_not_one_prompt_fits_the_error_says_what_to_do(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    no_slots_for(0, [], monkeypatch, MemoryError())
    with pytest.raises(DoesNotFit, match="single prompt"):
        engine.generate(PROMPTS, max_new_tokens=3, batch_size=2)
    assert not any(product.adapters for layer in engine._flat.model().layers for product in layer.products)


def test_an_error_that_is_not_memory_is_not_hidden(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    no_slots_for(0, [], monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        engine.generate(PROMPTS, max_new_tokens=3)


def test_a_memory_that_is_predicted_to_be_too_large_is_never_asked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine.generate(PROMPTS, max_new_tokens=3)
    row_bytes = engine._flat.generator(()).slot_bytes(9)
    monkeypatch.setattr("foretune.engine.engine.free_bytes", lambda: 2 * row_bytes)
    sizes: list[int] = []
    no_slots_for(2, sizes, monkeypatch, MemoryError())
    assert engine.generate(PROMPTS, max_new_tokens=3, batch_size=8) == expected
    assert sizes == [2] and "batch size is now 2" in engine.said[0]


def test_padded_batches_are_halved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(tiny_model(tmp_path, "gpt2"))
    expected = engine.generate(PROMPTS, max_new_tokens=3)
    assert "gpt2" in engine.said[0]
    model: Any = engine.loaded.model
    generate, sizes = model.generate, []

    def small_machine(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("out of memory")
        return generate(**inputs)

    monkeypatch.setattr(model, "generate", small_machine)
    assert engine.generate(PROMPTS, max_new_tokens=3, batch_size=3) == expected
    assert sizes == [3, 1, 1, 1]


def test_equal_prompts_are_answered_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    no_slots_for(3, sizes, monkeypatch, MemoryError())
    answers = engine.generate([PROMPTS[0], PROMPTS[1], PROMPTS[0]], max_new_tokens=3)
    assert answers[0] == answers[2] != answers[1] and sizes == [2]


def test_a_prompt_without_room_keeps_its_end(engine: Engine) -> None:
    limit = engine.max_len
    assert limit == 256
    long = [index % 900 + 20 for index in range(400)]
    assert engine.generate([long], max_new_tokens=6) == engine.generate([long[-250:]], max_new_tokens=6)


def test_soft_prompts_take_positions(base: Path) -> None:
    loaded = load_model(base)
    engine = load_engine(base)
    attach_soft_prompt(loaded, num_tokens=16, seed=0)
    assert Engine(loaded, engine.tokenizer).max_len == 240


def test_bits_per_byte_are_the_loss_over_the_bytes(engine: Engine) -> None:
    text = "the parcel is läte"
    ids = [engine.tokenizer.bos_id, *engine.tokenizer.encode(text)]
    with torch.no_grad():
        logits = engine.loaded.model(input_ids=torch.tensor([ids])).logits[0, :-1]
    nats = float(-logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum())
    loss = engine.text_loss([text])
    assert loss.num_bytes == len(text.encode()) and loss.num_tokens == len(ids) - 1
    assert loss.bits_per_byte == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-5)
    twice = engine.text_loss([text, text, ""])
    assert twice.bits_per_byte == pytest.approx(loss.bits_per_byte) and twice.num_tokens == 2 * loss.num_tokens


def test_classes_do_not_depend_on_the_batch(base: Path, tmp_path: Path) -> None:
    loaded = load_model(base, num_labels=3, pad_id=0, seed=1)
    with torch.no_grad():
        loaded.model.score.weight.copy_(torch.randn(loaded.model.score.weight.shape))
    attach_lora(loaded, rank=2, alpha=4, dropout=0.0, seed=0)
    artefact = save_artefact(loaded, tmp_path, method="classify", base=str(base), labels=("a", "b", "c"))
    engine = load_engine(base, artefact)
    inputs = [[number * 7 % 900 + 10] * (number % 9 + 1) for number in range(20)]
    alone = [engine.classify([one])[0] for one in inputs]
    assert engine.labels == ("a", "b", "c") and len(set(alone)) > 1
    assert engine.classify(inputs, batch_size=6) == alone


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_speed_is_measured_on_answers_that_no_stop_token_ends(family: str, tmp_path: Path) -> None:
    engine = load_engine(tiny_model(tmp_path, family))
    engine.tokenizer.stop_ids = every = tuple(range(2048))
    assert 0 < decode_seconds(engine.loaded, engine.tokenizer, 3) < 5
    assert engine.tokenizer.stop_ids == every and engine.generate(PROMPTS, max_new_tokens=3) == [[], [], []]


def test_a_missing_artefact_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="adapter"):
        load_engine(base, tmp_path / "adapter")
