"""What recomputed activations and a frozen trunk do to a plan's memory and time, and when the plan chooses them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.config.derive import derive
from foretune.hardware import Machine
from foretune.models.shapes import model_shape
from foretune.plan import plan
from foretune.plan.lengths import Pass
from foretune.plan.memory import peak_memory
from foretune.plan.trained import trained_by
from foretune.records.plan import PlanRecord
from foretune.units import GIB

from .conftest import lengths_of, llama, probe_of

SHAPE_S = {**llama(288, 6, 768, 32000), "num_attention_heads": 6, "tie_word_embeddings": True}
SHAPE_M = {
    **llama(576, 30, 1536, 49152),
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def planned(machine: Machine, *, probe: Any = None, train: dict[str, Any] | None = None, **advanced: Any) -> PlanRecord:
    job = JobConfig.model_validate({"train": {**(train or {}), "advanced": advanced}})
    config = llama(512, 16, 1536, 8192)
    return plan(job, base_config=config, lengths=lengths_of(tokens=200), machine=machine, probe=probe)


@pytest.mark.parametrize("engine", ["auto", "padded"])
@pytest.mark.parametrize("probed", [True, False])
def test_recomputing_takes_less_memory_and_more_time(engine: str, probed: bool, machine: Machine) -> None:
    probe = probe_of(peak_memory_bytes=2_000_000_000) if probed else None
    kept, again = (planned(machine, probe=probe, engine=engine, recompute=wish) for wish in ("never", "always"))
    assert again.memory_components["activations"] < 0.35 * kept.memory_components["activations"]
    assert again.peak_memory_gb.expected < kept.peak_memory_gb.expected
    assert 1.1 < again.train_seconds.expected / kept.train_seconds.expected < 1.7
    assert (kept.recomputes_activations, again.recomputes_activations) == (False, True)
    assert any("computed again" in line for line in again.assumptions)
    assert not any("computed again" in line for line in kept.assumptions)


def test_what_a_probe_measured_is_not_counted_twice(machine: Machine) -> None:
    measured = probe_of(recomputes_activations=True)
    assert planned(machine, probe=measured, recompute="always").train_seconds.expected == pytest.approx(
        planned(machine, probe=probe_of(), recompute="never").train_seconds.expected
    )


def test_the_plan_recomputes_only_where_it_must(machine: Machine) -> None:
    roomy = planned(machine)
    assert roomy.fits and not roomy.recomputes_activations
    need = planned(machine, recompute="never").peak_memory_gb.high
    short = replace(machine, available_memory_bytes=int(0.98 * need * 1e9))
    refused = planned(short, recompute="never")
    assert not refused.fits and any("may not fit" in line for line in refused.warnings)
    chosen = planned(short)
    assert chosen.fits and chosen.recomputes_activations
    tiny = planned(replace(machine, available_memory_bytes=GIB // 4))
    assert not tiny.fits


# Peak resident memory of whole runs on the CPU, one thread, flat tokens, rank 16 on all linear layers (machine A,
# 2026-11-21): the shape, tokens of the largest pass, whether recomputed, LoRA dropout, GB.
MEASURED: list[tuple[dict[str, Any], int, bool, float, float]] = [
    (SHAPE_S, 3274, False, 0.05, 1.031),
    (SHAPE_S, 3274, True, 0.05, 0.814),
    (SHAPE_S, 3274, False, 0.0, 0.925),
    (SHAPE_S, 3274, True, 0.0, 0.745),
    (SHAPE_M, 2048, False, 0.0, 2.979),
    (SHAPE_M, 2048, True, 0.0, 2.050),
]


@pytest.mark.parametrize(("config", "tokens", "recomputes", "dropout", "peak_gb"), MEASURED)
def test_measured_peaks_are_predicted_within_a_tenth(
    config: dict[str, Any], tokens: int, recomputes: bool, dropout: float, peak_gb: float
) -> None:
    advanced = {"target_modules": ["all-linear"], "dropout": dropout}
    job = JobConfig.model_validate({"train": {"advanced": advanced}})
    shape = model_shape(config)
    derived = derive(
        job,
        num_train_samples=96,
        longest_sample_tokens=290,
        model_max_len=None,
        frozen_flat_parameters=shape.parameters,
    )
    memory = peak_memory(
        shape, trained_by(job, shape, num_labels=0), derived, largest=Pass(1, tokens, tokens * 200), longest_answer=90,
        device="cpu", is_flat=True, recomputes=recomputes,
    )  # fmt: skip
    assert memory.peak_gb.expected == pytest.approx(peak_gb, rel=0.1)


def test_adapters_in_the_top_blocks_take_less_of_everything(machine: Machine) -> None:
    whole, top = planned(machine, train={"epochs": 3.0}), planned(machine, train={"epochs": 3.0}, top_layers=4)
    assert top.trainable_parameters == whole.trainable_parameters // 4
    quarter = whole.memory_components["activations"] / 4
    assert 0.85 * quarter < top.memory_components["activations"] < quarter  # the last block keeps less, in both
    assert top.train_seconds.expected < 0.4 * whole.train_seconds.expected
    assert any("12 blocks below the adapters are frozen and computed once" in line for line in top.assumptions)


def test_a_trunk_is_planned_in_memory_on_disk_or_not_at_all(machine: Machine) -> None:
    kept = planned(machine, top_layers=4)
    size = kept.memory_components["trunk"]
    assert size > 4 * 512 * 200 * 200
    on_disk = planned(replace(machine, available_memory_bytes=int(3.9 * size)), top_layers=4)
    assert "trunk" not in on_disk.memory_components and on_disk.disk_bytes > kept.disk_bytes + 0.9 * size
    nowhere = planned(
        replace(machine, available_memory_bytes=int(3.9 * size), disk_free_bytes=int(3.9 * size)), top_layers=4
    )
    assert nowhere.train_seconds.expected > 1.3 * kept.train_seconds.expected
    for other in (
        planned(machine, top_layers=4, without=["cached_trunk"]),
        planned(machine, train={"epochs": 1.0}, top_layers=4),
    ):
        assert "trunk" not in other.memory_components
