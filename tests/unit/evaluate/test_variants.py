"""Retrieval over documents, quantised variants with their gates, similarity in the record, and perplexity of texts."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError, NotFound
from foretune.evaluate.quantised import quantise_engine, quantised_gate
from foretune.evaluate.retrieval import Bm25, passages_of, read_passages
from foretune.stats.paired import compare_paired

from .conftest import LABELS, knows, thing

Run = Any


def asking(text: str) -> Sample:
    return Sample("q", (Message("user", text), Message("assistant", "x")))


def test_bm25_by_hand() -> None:
    index = Bm25(["cats chase mice", "dogs chase cats and cats", "birds sing"])
    mean = (3 + 5 + 2) / 3

    def gain(count: int, length: int, holding: int) -> float:
        idf = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
        return idf * count * 2.2 / (count + 1.2 * (1 - 0.75 + 0.75 * length / mean))

    assert index.scores("cats") == pytest.approx({0: gain(1, 3, 2), 1: gain(2, 5, 2)})
    assert index.scores("mice cats")[0] == pytest.approx(gain(1, 3, 1) + gain(1, 3, 2))
    assert index.passages(asking("cats"), 1) == ["dogs chase cats and cats"]
    assert index.passages(asking("trains"), 3) == []


def test_documents_in_passages(tmp_path: Path) -> None:
    text = " ".join(f"w{number}" for number in range(250))
    parts = passages_of(text)
    assert [len(part.split()) for part in parts] == [120, 120, 70]
    assert {word for part in parts for word in part.split()} == set(text.split())
    assert passages_of("  short one ") == ["short one"] and passages_of(" ") == []
    (tmp_path / "a.md").write_text("the sky is blue", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "the sea is green"}\n', encoding="utf-8")
    found = read_passages(tmp_path)
    assert found.passages(asking("what is the sea"), 1) == ["the sea is green"]
    with pytest.raises(NotFound):
        read_passages(tmp_path / "gone")
    (tmp_path / "empty.txt").write_text(" ", encoding="utf-8")
    with pytest.raises(DataError, match="no text"):
        read_passages(tmp_path / "empty.txt")


def reads(prompt: str) -> str:
    """A model that only knows what stands in its prompt."""
    number = thing(prompt)
    known = f"thing {number} is {LABELS[number % 3]}"
    return LABELS[number % 3] if known in prompt else "no idea"


def test_retrieval_is_a_baseline_chosen_on_validation(fake_run: Run) -> None:
    folder = fake_run.folder / "docs"
    folder.mkdir()
    for number in [*range(30), *range(100, 112), *range(1000, 1060)]:
        fact = f"thing {number} is {LABELS[number % 3]}"
        (folder / f"{number}.txt").write_text(f"{fact}. The colour of thing {number}.", encoding="utf-8")
    fake_run.base.answer = reads
    fake_run.tuned.answer = knows(wrong_every=2)
    fake_run.settings["evaluate"]["documents"] = "docs"
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert record.baseline == "base_retrieval" and record.verdict == "worse"
    assert record.system("base_retrieval").metrics["accuracy"].value == 1.0
    tried = [row for row in record.prompt_choices if row["name"].startswith("retrieval_")]
    assert {row["name"] for row in tried} == {"retrieval_1", "retrieval_3", "retrieval_5"}
    assert sum(row["chosen_as"] == "base_retrieval" for row in tried) == 1
    assert not record.claims  # it is the baseline itself


def test_useless_documents_are_shown_and_do_not_decide(fake_run: Run) -> None:
    (fake_run.folder / "notes.txt").write_text("the colour of money", encoding="utf-8")
    fake_run.settings["evaluate"]["documents"] = "notes.txt"
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert record.baseline == "base_few_shot"
    assert [claim.system for claim in record.claims] == ["base_retrieval"]
    assert record.claims[0].verdict == "better" and record.claims[0].p_adjusted < 0.05


@pytest.mark.req("R352")
def test_gates_of_quantised_variants(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[str] = []

    def quantise(engine: Any, bits: str) -> None:
        packed.append(bits)
        fake_run.tuned.answer = knows() if bits == "8bit" else knows(wrong_every=4)

    monkeypatch.setattr("foretune.evaluate.case.quantise_engine", quantise)
    fake_run.settings["evaluate"]["advanced"]["quantised"] = ["8bit", "4bit"]
    fake_run.write_questions(num_test=120)
    record = fake_run.evaluate()
    assert packed == ["8bit", "4bit"] and fake_run.loads.count("fine_tuned") == 3
    eight, four = record.gates
    assert (eight.status, eight.loss_fraction, eight.allowed_fraction) == ("holds", 0.0, 0.05)
    assert (four.status, four.loss_fraction, four.allowed_fraction) == ("breached", 0.25, 0.10)
    assert record.delta.value == record.system("fine_tuned").metrics["accuracy"].value - 0.5


def test_gate_that_nothing_proves() -> None:
    before, after = [1.0] * 18 + [0.0] * 2, [1.0] * 17 + [0.0] * 2 + [1.0]
    gate = quantised_gate("4bit", 0.9, 0.9, compare_paired(before, after, "binary"))
    assert gate.status == "unproven" and gate.n_needed is not None and gate.n_needed > 20


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantised_pebble_stays_close(bits: Any) -> None:
    from foretune.engine.engine import load_engine
    from foretune.models.base import resolve_base
    from foretune.models.quantise import QuantisedLinear

    engine = load_engine(resolve_base("pebble"))
    text = "The red fox runs to the river and drinks cold water."
    whole = engine.text_loss([text]).bits_per_byte
    quantise_engine(engine, bits)
    assert any(isinstance(module, QuantisedLinear) for module in engine.loaded.model.modules())
    assert engine.text_loss([text]).bits_per_byte == pytest.approx(whole, rel=0.02 if bits == "8bit" else 0.25)
    with pytest.raises(ConfigError, match="quantised already"):
        quantise_engine(engine, bits)


@pytest.mark.req("R279")
def test_similarity_and_queue_in_the_record(fake_run: Run) -> None:
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert record.similarity is not None and record.similarity.embedder.startswith("TF-IDF")
    assert record.avg_similarity == 1.0 and record.similarity.shuffled < 0.5
    assert record.exact_match_rate == 1.0 and record.human_eval_queue == 60


def test_perplexity_of_raw_text(fake_run: Run) -> None:
    texts = [Sample(f"t{number}", text=f"document number {number} " * 3) for number in range(40)]
    fake_run.settings["train"] = {"method": "pretrain"}
    fake_run.tuned.bits = lambda text: 1.0
    fake_run.write(texts[:20], texts[20:25], texts[25:], task="text")
    record = fake_run.evaluate()
    assert record.system("base_zero_shot").metrics["perplexity"].value == pytest.approx(4.0)
    assert record.system("fine_tuned").metrics["perplexity"].value == pytest.approx(2.0)
    assert record.system("fine_tuned").metrics["bits_per_byte"].value == pytest.approx(1.0)


@pytest.mark.req("R279")
@pytest.mark.req("R281")
def test_json_answer_of_the_command_line(fake_run: Run, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretune.api.reconcile_run", lambda run: None)
    fake_run.write_questions()
    document = cli("evaluate", "colours-001", "--runs-dir", fake_run.runs_dir, "--json").document
    assert document["exactMatchRate"] == 1.0 and document["avgSimilarity"] == 1.0
    assert len(document["humanEvalQueue"]) == 60
    assert set(document["humanEvalQueue"][0]) == {"input", "prediction", "expected"}
    shown = cli("evaluate", "colours-001", "--runs-dir", fake_run.runs_dir, "--rate", "--learning-curve")
    assert shown.code == 2 and "exclude each other" in shown.err
