"""A machine, base models and lengths to plan with."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from foretune.hardware import Gpu, Machine
from foretune.plan import Lengths
from foretune.records.probe import ProbePoint, ProbeRecord
from foretune.units import GIB


def llama(width: int = 192, layers: int = 7, ffn: int = 512, vocab: int = 2048) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "max_position_embeddings": 4096,
    }


LLAMA_7B = {**llama(4096, 32, 11008, 32000), "num_attention_heads": 32}
LLAMA_13B = {**llama(5120, 40, 13824, 32000), "num_attention_heads": 40}


@pytest.fixture
def machine() -> Machine:
    return Machine("Testchip", 2, 2.5e9, 32, 16 * GIB, 8 * GIB, 100 * GIB, ())


def gpu_machine(name: str = "NVIDIA A100-SXM4-80GB", memory_gb: int = 80) -> Machine:
    gpu = Gpu(name, memory_gb * 10**9, memory_gb * 10**9, "550", 8.0)
    return Machine("Testchip", 16, 2.5e9, 32, 128 * GIB, 100 * GIB, 1000 * GIB, (gpu,))


def lengths_of(samples: int = 400, tokens: int = 100) -> Lengths:
    """Deterministic lengths between a half and one and a half of `tokens`."""
    train = [tokens // 2 + (index * 37) % tokens for index in range(samples)]
    held_out = train[: max(1, samples // 8)]
    return Lengths(train, held_out, held_out, [20] * samples, [20] * len(held_out), num_labels=3)


def probe_of(**changes: Any) -> ProbeRecord:
    """A machine on which a pass takes 10 ms and 20 us a padded token, exactly."""
    sizes = [(16, 150), (16, 150), (8, 100), (16, 60), (4, 120), (16, 100)]
    values: dict[str, Any] = {
        "device": "Testchip (2 threads)",
        "num_threads": 2,
        "precision": "fp32",
        "micro_batch_size": 16,
        "load_seconds": 0.5,
        "points": tuple(ProbePoint(num_rows=r, row_tokens=t, seconds=0.01 + 2e-5 * r * t) for r, t in sizes),
        "eval_points": tuple(ProbePoint(num_rows=r, row_tokens=t, seconds=1e-5 * r * t) for r, t in sizes[:3]),
        "update_seconds": 0.004,
        "save_seconds": 0.02,
        "total_parameters": 3_234_624,
        "trainable_parameters": 75_264,
        "base_memory_bytes": 460_000_000,
        "peak_memory_bytes": 900_000_000,
        "decode_seconds_per_token": 0.005,
    }
    return ProbeRecord.model_validate(values | changes)
