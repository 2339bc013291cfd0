"""Evaluation of real, tiny, random models: each kind goes through, and a model that learned nothing is not better."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foretune.data.samples import Message, Sample
from foretune.models.adapter import attach_lora
from foretune.models.load import load_model
from foretune.models.save import save_artefact
from foretune.records.evaluation import EvaluationRecord
from tiny import tiny_model

Run = Any  # the run of conftest.py whose models are real


def colours(start: int, count: int) -> list[Sample]:
    words = ("blue", "green")
    return [
        Sample(str(n), (Message("user", f"colour {n}?"), Message("assistant", words[n % 2])))
        for n in range(start, start + count)
    ]


def evaluated(run: Run, family: str, method: str, samples: tuple[list[Sample], ...]) -> EvaluationRecord:
    base = tiny_model(run.folder / "base", family)
    run.settings |= {"base": str(base), "train": {"method": method}}
    run.settings["evaluate"] |= {"max_new_tokens": 3, "few_shot": [2]}
    run.settings["evaluate"]["advanced"] |= {"max_validation_samples": 4, "probe_samples": 1}
    run.write(*samples)
    labels = ("blue", "green") if method == "classify" else ()
    loaded = load_model(base, num_labels=len(labels), pad_id=0)
    if method != "pretrain":
        attach_lora(loaded, rank=2, alpha=4, dropout=0.0, seed=0)
    _shift(loaded)
    artefact: Path = save_artefact(loaded, run.run_dir, method=method, base=str(base), labels=labels)
    record = run.training.model_copy(update={"artefact": artefact.name})
    record.write(run.run_dir)
    result: EvaluationRecord = run.evaluate()
    return result


def _shift(loaded: Any) -> None:
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))


QUESTIONS = (colours(0, 12), colours(100, 4), colours(200, 8))


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_random_models_answer_and_are_not_better(family: str, real_run: Run) -> None:
    record = evaluated(real_run, family, "lora", QUESTIONS)
    assert [system.name for system in record.systems] == ["base_zero_shot", "base_few_shot", "constant", "fine_tuned"]
    assert record.verdict != "better" and record.systems[3].metrics["accuracy"].value == 0.0
    assert record.systems[0].generated_tokens > 0 and record.n == 8
    assert bool(record.general_skills) == (family != "t5")
    assert any("encoder-decoder" in warning for warning in record.warnings) == (family == "t5")


def test_a_class_head_is_compared_with_the_base_that_writes(real_run: Run) -> None:
    record = evaluated(real_run, "llama", "classify", QUESTIONS)
    assert record.system("fine_tuned").metrics["accuracy"].value > 0 and record.confusion["labels"] == ["blue", "green"]
    assert sum(map(sum, record.confusion["counts"])) == 8


def test_raw_text_is_predicted_by_both(real_run: Run) -> None:
    texts = [Sample(str(n), text=f"the {n} little stories of the sea and the sky {n}") for n in range(24)]
    record = evaluated(real_run, "gpt2", "pretrain", (texts[:12], texts[12:16], texts[16:]))
    base, tuned = (system.metrics["bits_per_byte"] for system in record.systems)
    assert 1 < base.value < 12 and base.n == 8
    assert record.delta.value == pytest.approx(base.value - tuned.value)
