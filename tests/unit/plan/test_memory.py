"""Peak memory by component."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.config.derive import derive
from foretune.models.shapes import model_shape
from foretune.plan.lengths import Pass
from foretune.plan.memory import Memory, Trained, peak_memory
from foretune.records.probe import ProbePoint, ProbeRecord

from .conftest import LLAMA_7B, llama, probe_of

PARAMETERS_7B = 6_738_415_616


def memory_of(
    config: dict[str, Any], trained: Trained, largest: tuple[int, int] = (4, 512), device: Any = "cuda", **more: Any
) -> Memory:
    job = JobConfig()
    derived = derive(job, num_train_samples=100, longest_sample_tokens=512, model_max_len=None, device=device)
    return peak_memory(
        model_shape(config), trained, derived, largest=Pass.padded(*largest), longest_answer=100, device=device, **more
    )


def lora(config: dict[str, Any], parameters: int = 8_388_608) -> Trained:
    return Trained(model_shape(config).parameters, parameters, False, (), True)


def full(config: dict[str, Any]) -> Trained:
    total = model_shape(config).parameters
    return Trained(total, total, True)


@pytest.mark.req("R429")
def test_full_training_is_explained_by_its_components() -> None:
    memory = memory_of(LLAMA_7B, full(LLAMA_7B))
    parts = memory.components
    assert {"weights", "gradients", "optimiser", "activations", "logits"} <= set(parts)
    assert parts["optimiser"] == 8 * PARAMETERS_7B
    assert parts["gradients"] == 4 * PARAMETERS_7B
    assert memory.peak_gb.expected > 107  # 16 bytes a weight alone, far above the brief's "80 GB+"
    adapters = memory_of(LLAMA_7B, lora(LLAMA_7B)).components
    assert adapters["optimiser"] == 8 * 8_388_608
    assert adapters["weights"] == 4 * PARAMETERS_7B


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("probed", [True, False])
def test_components_add_up_to_the_peak(device: str, probed: bool) -> None:
    probe = probe_of() if probed else None
    memory = memory_of(llama(), lora(llama(), 75_264), (16, 150), device, probe=probe)
    context = memory.components["runtime"] if device == "cuda" else 0.0
    assert sum(memory.components.values()) - context == pytest.approx(memory.peak_gb.expected * 1e9)
    assert memory.peak_gb.low < memory.peak_gb.expected < memory.peak_gb.high
    assert memory.needed_gb == pytest.approx(memory.peak_gb.high + context / 1e9)
    assert min(memory.components.values()) >= 0


def test_kernels_that_are_compiled_for_every_shape_count_once() -> None:
    """Where torch multiplies in bf16; a probe has held them already, and our own products need none."""
    job = JobConfig.model_validate({"train": {"advanced": {"precision": "bf16"}}})
    derived = derive(job, num_train_samples=100, longest_sample_tokens=512, model_max_len=None, device="cpu")

    def kernels(**more: Any) -> float:
        trained, largest = lora(llama(), 75_264), Pass.padded(4, 128)
        memory = peak_memory(model_shape(llama()), trained, derived, largest=largest, longest_answer=100,
                             device="cpu", is_flat=True, **more)  # fmt: skip
        return memory.components["kernels"]

    assert kernels() == 300_000_000
    assert kernels(has_own_products=True) == kernels(probe=probe_of()) == 0


def test_memory_grows_with_batch_length_and_model() -> None:
    def peak(config: dict[str, Any], rows: int, tokens: int) -> float:
        return memory_of(config, lora(config, 1000), (rows, tokens)).peak_gb.expected

    assert peak(llama(), 4, 128) < peak(llama(), 8, 128) < peak(llama(), 8, 256)
    assert peak(llama(), 4, 128) < peak(llama(layers=9), 4, 128) < peak(llama(width=256, layers=9), 4, 128)


def test_activations_are_those_that_autograd_was_seen_to_keep() -> None:
    """Llama of width 64, keys 32, inner 192, in fp32: 5,376 bytes a layer and token, measured; adapters 4,608."""
    config = {**llama(64, 4, 192, 64), "num_attention_heads": 8, "num_key_value_heads": 4}
    shape_layers, tokens = 4, 256
    trained = memory_of(config, full(config), (1, tokens), "cpu").components["activations"]
    assert trained / (shape_layers * tokens) == pytest.approx(5376, rel=0.02)
    adapted = memory_of(config, lora(config, 4 * 4 * (128 + 96)), (1, tokens), "cpu").components["activations"]
    assert adapted / (shape_layers * tokens) == pytest.approx(4608, rel=0.02)


def test_attention_that_writes_its_scores_grows_with_the_square() -> None:
    gpt2 = {"model_type": "gpt2", "vocab_size": 64, "n_embd": 64, "n_layer": 2, "n_head": 8, "n_positions": 2048}
    short, long = (
        memory_of(gpt2, full(gpt2), (1, tokens), "cpu").components["activations"] / tokens for tokens in (128, 256)
    )
    assert short == pytest.approx(2 * 19_984, rel=0.02)
    assert long == pytest.approx(2 * 32_272, rel=0.02)


def test_logits_count_supervised_positions_only_where_the_head_allows_it() -> None:
    t5 = {"model_type": "t5", "vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    assert memory_of(llama(), lora(llama())).components["logits"] == 12 * 4 * 100 * 2048
    assert memory_of(t5, full(t5)).components["logits"] == 12 * 4 * 512 * 64


def test_a_probe_gives_its_own_peak_and_scales_the_step() -> None:
    probe = probe_of(peak_memory_bytes=1_800_000_000)  # of its largest batch, 16 x 150
    same = memory_of(llama(), lora(llama(), 75_264), (16, 150), "cpu", probe=probe)
    held = sum(same.components[name] for name in ("weights", "adapters", "gradients", "optimiser", "runtime")) / 1e9
    assert 0.44 < held < 0.46
    assert same.peak_gb.expected == pytest.approx(held + 1.05 * (1.8 - held), rel=1e-6)
    assert same.peak_gb.holds(1.8)
    larger = memory_of(llama(), lora(llama(), 75_264), (16, 300), "cpu", probe=probe)
    assert larger.peak_gb.expected == pytest.approx(held + 2 * 1.05 * (1.8 - held), rel=1e-6)


def test_a_probe_that_agrees_with_the_shape_meets_it_in_the_middle() -> None:
    """Of the step; on a GPU, where peaks repeat, the probe has the word."""
    calculated = memory_of(llama(), lora(llama(), 75_264), (16, 150), "cpu")
    both = memory_of(llama(), lora(llama(), 75_264), (16, 150), "cpu", probe=probe_of())
    held, usual = (
        sum(memory.components[name] for name in names) / 1e9
        for memory, names in (
            (both, ("weights", "adapters", "gradients", "optimiser", "runtime")),
            (calculated, ("activations", "logits", "workspace")),
        )
    )
    assert both.peak_gb.expected == pytest.approx(held + (1.05 * (0.9 - held) * usual) ** 0.5, rel=1e-6)


def test_a_probe_on_a_gpu_is_the_allocators_peak() -> None:
    """The context is not in it, and nothing is saved beside it."""
    probe = probe_of(saving_memory_bytes=2_000_000_000)
    memory = memory_of(llama(), lora(llama(), 75_264), (16, 150), "cuda", probe=probe)
    assert memory.peak_gb.expected == pytest.approx(0.9) and memory.components["runtime"] == 600_000_000


def test_a_probe_also_tells_what_saving_takes() -> None:
    """The most of both is the peak; what saving took while the step was smaller is not added to it."""
    trained = lora(llama(), 75_264)
    high = memory_of(llama(), trained, (16, 150), "cpu", probe=probe_of(saving_memory_bytes=1_400_000_000))
    assert high.peak_gb.expected == pytest.approx(1.4, rel=1e-6)
    same = memory_of(llama(), trained, (16, 150), "cpu", probe=probe_of(saving_memory_bytes=900_000_000))
    assert same.peak_gb.expected == pytest.approx(0.93, rel=0.03)
    assert same.components["checkpoint"] == 0


def test_the_heap_fills_with_passes_up_to_what_was_measured() -> None:
    """Flat passes on a CPU: the more of them come near the largest, the more the heap holds beside them."""
    job = JobConfig()
    derived = derive(job, num_train_samples=100, longest_sample_tokens=512, model_max_len=None, device="cpu")

    def peak(num_large: float, probe: ProbeRecord | None = None) -> float:
        shape, trained = model_shape(llama()), lora(llama(), 75_264)
        memory = peak_memory(shape, trained, derived, largest=Pass(1, 4000, 400_000), longest_answer=20, device="cpu",
                             is_flat=True, num_large=num_large, probe=probe)  # fmt: skip
        return memory.peak_gb.expected

    assert peak(1) == peak(3) < peak(6) < peak(24) == peak(500)
    points = [ProbePoint(num_rows=1, row_tokens=4000, seconds=0.1)] * 3
    four = tuple(points)  # with the first one, which is not timed
    seen = probe_of(points=four, peak_memory_bytes=2_000_000_000)
    assert peak(4, seen) == pytest.approx(2.0) and 2.0 < peak(24, seen) < 2.3


def test_weights_in_the_file_and_their_merged_copies_count_both() -> None:
    """fp32: queries, keys, values, gate and up are copied; bf16: everything is cast; a trained base is not."""
    shape = model_shape(llama())
    merged = 4 * 7 * 192 * (192 + 2 * 192 + 2 * 512)
    whole = {"fp32": merged, "bf16": 2 * shape.parameters}
    for precision, copies in whole.items():
        job = JobConfig.model_validate({"train": {"advanced": {"precision": precision}}})
        derived = derive(job, num_train_samples=100, longest_sample_tokens=512, model_max_len=None, device="cpu")
        memory = peak_memory(shape, lora(llama(), 75_264), derived, largest=Pass(1, 512, 4096), longest_answer=20,
                             device="cpu", is_flat=True)  # fmt: skip
        assert memory.components["weights"] == 4 * shape.parameters + copies


def test_saving_a_large_model_can_be_the_peak() -> None:
    small_step = memory_of(LLAMA_7B, full(LLAMA_7B), (1, 16), "cpu")
    assert small_step.components["checkpoint"] > 50e9
    assert "checkpoint" not in memory_of(LLAMA_7B, full(LLAMA_7B), (1, 16), "cuda").components
