"""Many adapters over one base in one pass, against one after the other: what batched adapters would gain in a sweep.

The only work that adapters of one base could share is how the base's products are called: rows of all adapters in one
large product instead of K small ones (each adapter has activations of its own). So a layer's products, forward and
backward with LoRA beside them, tell the most that joining can gain. `python benchmarks/bench_adapters.py`, GPUs too.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: K adapters, T tokens of one of them, D width in and out, F width of the network, R rank.
from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WIDTHS = {"S": (288, 768), "M": (576, 1536), "L": (896, 4864)}  # D and F of the models of bench_train.py
RANK = 16
ROUNDS = 9


def _products(width: int, inner: int) -> list[tuple[int, int]]:
    """Inputs and outputs of a layer's products, merged as our decoder merges them."""
    return [(width, 3 * width), (width, width), (width, 2 * inner), (inner, width)]


def _separate(weight_OI: Tensor, given: Sequence[tuple[Tensor, ...]]) -> None:
    """Each adapter by itself, forward and backward."""
    for x_TI, a_RI, b_OR in given:
        y_TO = torch.addmm(x_TI @ weight_OI.T, x_TI @ a_RI.T, b_OR.T)
        torch.autograd.grad(y_TO, (x_TI, a_RI, b_OR), torch.ones_like(y_TO))


def _joint(weight_OI: Tensor, given: tuple[Tensor, ...]) -> None:
    """All adapters in one product of the base and batched products beside it."""
    x_KTI, a_KRI, b_KOR = given
    base_KTO = (x_KTI.flatten(0, 1) @ weight_OI.T).view(*x_KTI.shape[:2], -1)
    y_KTO = torch.baddbmm(base_KTO, torch.bmm(x_KTI, a_KRI.mT), b_KOR.mT)
    torch.autograd.grad(y_KTO, given, torch.ones_like(y_KTO))


def _seconds(run: Callable[[], None], device: str) -> float:
    """CPU-seconds (GPU: wall seconds)."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    if device == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def measure_cell(size: str, num_adapters: int, num_tokens: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Medians of interleaved rounds over a layer's products; `gain` is how many times faster the joint pass is."""
    torch.manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype).mul_(0.05).requires_grad_()

    weights = [drawn(outputs, inputs).detach() for inputs, outputs in _products(*WIDTHS[size])]
    joint = [
        (
            drawn(num_adapters, num_tokens, weight.shape[1]),
            drawn(num_adapters, RANK, weight.shape[1]),
            drawn(num_adapters, weight.shape[0], RANK),
        )
        for weight in weights
    ]
    apart = [[tuple(t[k].detach().clone().requires_grad_() for t in one) for k in range(num_adapters)] for one in joint]

    def run_apart() -> None:
        for weight, given in zip(weights, apart, strict=True):
            _separate(weight, given)

    def run_joint() -> None:
        for weight, given in zip(weights, joint, strict=True):
            _joint(weight, given)

    found: dict[str, list[float]] = {"separate": [], "joint": []}
    for _ in range(ROUNDS):
        found["separate"].append(_seconds(run_apart, device))
        found["joint"].append(_seconds(run_joint, device))
    medians = {name: statistics.median(seconds[1:]) for name, seconds in found.items()}
    gain = round(medians["separate"] / medians["joint"], 2)
    return {**{f"{name}_seconds": round(value, 5) for name, value in medians.items()}, "gain": gain}


def measure() -> dict[str, Any]:
    """Every size with 4 and 8 adapters, a small batch and that of the study."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = {
        f"{size}/K{number}/T{tokens}/{str(dtype).removeprefix('torch.')}": measure_cell(
            size, number, tokens, dtype, device
        )
        for size in WIDTHS
        for number in (4, 8)
        for tokens in (64, 412)
        for dtype in (torch.float32, torch.bfloat16)
    }
    return {
        "metrics": results,
        "median_gain": round(statistics.median(row["gain"] for row in results.values()), 2),
        "device": device,
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
