"""The fused kernels against the plain torch code: every function, both types, every instruction set of this machine."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
import torch

from foretune.models import kernels as module
from foretune.models.flat_attention import Heads, Segment, flat_attention, rotary_tables
from foretune.models.flat_head import head_loss, token_losses
from foretune.models.kernels import FLAVOURS, Kernels, load_kernels, usable
from foretune.models.lora_math import gated, rms_norm

FOLDER = Path(module.__file__).parent
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-3}  # relative, of the whole tensor
# A prefix that two continue (one of them itself continued), then two sequences alone; lengths around the block sizes.
SEGMENTS = (
    Segment(0, 150, 262),
    Segment(150, 187, 207),
    Segment(187, 207, 207),
    Segment(207, 262, 262),
    Segment(262, 263, 263),
    Segment(263, 270, 270),
)
SHAPES = [(48, 6, 6), (64, 9, 3), (20, 4, 2), (128, 4, 1)]  # width of a head, query heads, key heads


def _flavours() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    return [name for name in module._flavours(capability) if (FOLDER / FLAVOURS[name]).is_file()]


@pytest.fixture(
    params=_flavours() or [pytest.param("", marks=pytest.mark.skip(reason="no compiler built the kernels"))]
)
def fused(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(ctypes.CDLL(str(FOLDER / FLAVOURS[request.param])), request.param)


def _grads(function, x, *more):
    """The result and every gradient under a fixed random upstream."""
    inputs = [tensor.clone().requires_grad_() for tensor in (x, *more)]
    y = function(*inputs)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, upstream)]


def _close(found, wanted) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        gap = (one.double() - other.double()).norm() / other.double().norm()
        assert gap < TOLERANCE[one.dtype], gap


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "bf16"])
@pytest.mark.parametrize(("width", "num", "num_keys"), SHAPES)
def test_attention(fused, dtype, width, num, num_keys):
    torch.manual_seed(0)
    heads = Heads(num, num_keys, width)
    tokens = SEGMENTS[-1].end
    qkv = torch.randn(tokens, (num + 2 * num_keys) * width).to(dtype)
    rotary = rotary_tables(torch.arange(tokens), 1 / 10000 ** (torch.arange(0, width, 2) / width), 1.0)
    wanted = _grads(lambda x: flat_attention(x, *rotary, SEGMENTS, heads), qkv)
    _close(_grads(lambda x: flat_attention(x, *rotary, SEGMENTS, heads, fused), qkv), wanted)


def test_attention_is_exact_against_one_softmax(fused):
    """In fp64, sequence by sequence, with the prefix repeated: nothing leaks between sequences."""
    torch.manual_seed(0)
    heads, tokens = Heads(2, 1, 16), SEGMENTS[-1].end
    qkv = torch.randn(tokens, 64)
    rotary = (torch.ones(tokens, 1, 8), torch.zeros(tokens, 1, 8))  # no rotation
    found = flat_attention(qkv, *rotary, SEGMENTS, heads, fused).view(tokens, 2, 16)
    for path in ([0, 1, 2], [0, 3], [4], [5]):
        places = torch.cat([torch.arange(SEGMENTS[i].start, SEGMENTS[i].end) for i in path])
        queries, keys, values = qkv[places].double().split([32, 16, 16], -1)
        for head in range(2):
            scores = queries[:, head * 16 : head * 16 + 16] @ keys.T / 4
            scores += torch.full_like(scores, -torch.inf).triu(1)
            assert torch.allclose(found[places, head].double(), torch.softmax(scores, -1) @ values, atol=2e-6)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "bf16"])
@pytest.mark.parametrize("result_type", TOLERANCE, ids=["to-fp32", "to-bf16"])
def test_norm(fused, dtype, result_type):
    torch.manual_seed(0)
    x, weight = torch.randn(33, 289).to(dtype), torch.rand(289)
    wanted = _grads(lambda x: rms_norm(x, weight, 1e-5, result_type), x)
    _close(_grads(lambda x: rms_norm(x, weight, 1e-5, result_type, fused), x), wanted)


def test_norm_of_heads(fused):
    torch.manual_seed(0)
    x, weight = torch.randn(5, 3 * 24)[:, :48].unflatten(-1, (2, 24)), torch.rand(24)  # neither flat nor contiguous
    wanted = _grads(lambda x: rms_norm(x, weight, 1e-5, torch.float32), x)
    _close(_grads(lambda x: rms_norm(x, weight, 1e-5, torch.float32, fused), x), wanted)


def test_norm_with_a_trained_weight(fused):
    torch.manual_seed(0)
    x, weight = torch.randn(7, 40), torch.rand(40)
    wanted = _grads(lambda x, w: rms_norm(x, w, 1e-5, torch.float32), x, weight)
    _close(_grads(lambda x, w: rms_norm(x, w, 1e-5, torch.float32, fused), x, weight), wanted)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "bf16"])
def test_gate(fused, dtype):
    torch.manual_seed(0)
    both = torch.cat([torch.randn(20, 2 * 131) * 3, torch.full((1, 2 * 131), 80.0), torch.full((1, 2 * 131), -80.0)])
    _close(_grads(lambda x: gated(x, fused), both.to(dtype)), _grads(gated, both.to(dtype)))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "bf16"])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_head(fused, dtype, spread):
    torch.manual_seed(0)
    hidden, head = (spread * torch.randn(70, 32)).to(dtype), torch.randn(1003, 32).to(dtype)
    targets, weights = torch.randint(0, 1003, (70,)), torch.rand(70)

    def loss(kernels):
        return lambda h, w: head_loss(h, w, w, targets, weights, rows=16, kernels=kernels).loss

    _close(_grads(loss(fused), hidden, head), _grads(loss(None), hidden, head))
    right = [token_losses(hidden, head, head, targets, rows=16, kernels=k).right_N for k in (fused, None)]
    assert torch.equal(*right)


def test_a_loss_that_is_not_a_number_stays_one(fused):
    hidden = torch.tensor([[float("nan"), 1.0], [1.0, 2.0]])
    losses = token_losses(hidden, torch.randn(40, 2), torch.randn(40, 2), torch.tensor([1, 2]), rows=0, kernels=fused)
    assert torch.isnan(losses.losses_N[0])
    assert torch.isfinite(losses.losses_N[1])


def test_threads_change_nothing(fused):
    torch.manual_seed(0)
    qkv, rotary = torch.randn(270, 4 * 32), rotary_tables(torch.arange(270), torch.ones(16), 1.0)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(_grads(lambda x: flat_attention(x, *rotary, SEGMENTS, Heads(2, 1, 32), fused), qkv))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_other_types_and_devices_run_the_plain_code(fused):
    assert usable(fused, torch.zeros(1, dtype=torch.float16)) is None
    assert usable(fused, torch.zeros(1, device="meta")) is None
    assert usable(fused, torch.zeros(1)) is fused


def test_switched_off_or_absent(monkeypatch, tmp_path):
    load_kernels.cache_clear()
    assert load_kernels(tmp_path) is None
    monkeypatch.setenv("FORETUNE_KERNELS", "off")
    load_kernels.cache_clear()
    assert load_kernels() is None
    load_kernels.cache_clear()
