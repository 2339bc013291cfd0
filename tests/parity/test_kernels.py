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
from foretune.models.kernels import FLAVOURS, Kernels, load_kernels, multiplies, usable
from foretune.models.lora_math import Dropped, Slot, adapted_product, gated, rms_norm

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


def test_bf16_attention_is_no_coarser_than_plain_torch(fused):
    """Both in bf16 against fp32: queries, keys, shares and gradients of scores are rounded in either."""
    torch.manual_seed(0)
    heads, tokens = Heads(9, 3, 64), SEGMENTS[-1].end
    qkv = torch.randn(tokens, 15 * 64).bfloat16()
    rotary = rotary_tables(torch.arange(tokens), 1 / 10000 ** (torch.arange(0, 64, 2) / 64), 1.0)
    exact = _grads(lambda x: flat_attention(x, *rotary, SEGMENTS, heads), qkv.float())
    plain = _grads(lambda x: flat_attention(x, *rotary, SEGMENTS, heads), qkv)
    found = _grads(lambda x: flat_attention(x, *rotary, SEGMENTS, heads, fused), qkv)
    for one, other, wanted in zip(found, plain, exact, strict=True):
        assert _gap(one, wanted) < 1.25 * _gap(other, wanted)


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


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "bf16"])
def test_threads_change_nothing(fused, dtype):
    torch.manual_seed(0)
    qkv, rotary = torch.randn(270, 4 * 32).to(dtype), rotary_tables(torch.arange(270), torch.ones(16), 1.0)
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


def _bf16(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).bfloat16()


@pytest.fixture
def own() -> Kernels:
    if "AVX512_BF16" not in _flavours():
        pytest.skip("this processor has no bf16 dot products, or nothing was built for them")
    kernels = Kernels(ctypes.CDLL(str(FOLDER / FLAVOURS["AVX512_BF16"])), "AVX512_BF16")
    kernels.has_products = True  # with AMX too, where torch's are taken
    return kernels


# Tokens, inputs, outputs: around the blocks of rows and columns, and several blocks of rows.
PRODUCTS = [(1, 2, 3), (7, 32, 48), (33, 64, 100), (37, 32, 14), (64, 10, 129), (300, 576, 192)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("tokens", "inputs", "outputs"), PRODUCTS)
def test_products_are_summed_in_fp32(own, tokens, inputs, outputs, threads):
    torch.manual_seed(0)
    x, weight, bias = _bf16(tokens, inputs), _bf16(outputs, inputs), _bf16(outputs)
    residual = torch.randn(tokens, outputs)
    exact = x.double() @ weight.double().T
    wanted = exact + bias + residual
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for is_turned, w in {True: weight, False: weight.T.contiguous()}.items():
            found = own.product(x, w, is_turned=is_turned, bias_O=bias, residual_TO=residual)
            assert found.dtype == torch.float32
            assert (found - wanted).norm() < 1e-6 * wanted.norm()
            plain = own.product(x, w, is_turned=is_turned)
            assert plain.dtype == torch.bfloat16
            assert (plain - exact).abs().max() <= 2**-8 * exact.abs().max()
    finally:
        torch.set_num_threads(before)


# First output, end and scale of each adapter, and its ranks: gaps between them, odd ones, several blocks of columns.
ADAPTERS = [
    ([(0, 96, 2.0)], [16]),
    ([(0, 96, 2.0), (128, 160, 0.5)], [8, 6]),
    ([(1, 34, 2.0), (34, 130, 0.5)], [3, 5]),
    ([(0, 600, 1.5), (600, 700, 2.0), (704, 804, 0.5)], [20, 4, 16]),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("slots", "sizes"), ADAPTERS)
@pytest.mark.parametrize(("tokens", "inputs"), [(1, 30), (7, 64), (300, 576)])
def test_adapters_and_their_gradients_are_summed_in_fp32(own, tokens, inputs, slots, sizes, threads):
    """Each product of the chain against fp64, from the bf16 factors that it had."""
    torch.manual_seed(0)
    outputs, rank = 2 + slots[-1][1], sum(sizes)
    x, weight, dy = _bf16(tokens, inputs), _bf16(outputs, inputs), _bf16(tokens, outputs)
    residual, bias = torch.randn(tokens, outputs), _bf16(outputs)
    shapes = (s for (start, end, _), r in zip(slots, sizes, strict=True) for s in ((r, inputs), (end - start, r)))
    matrices = [torch.randn(shape) for shape in shapes]
    b_OR = torch.block_diag(*(b * scale for b, (_, _, scale) in zip(matrices[1::2], slots, strict=True))).bfloat16()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = own.adapted(x, x, weight, slots, matrices, bias_O=bias, residual_TO=residual)
        back = own.adapted_backward(dy, x, weight, found[1:], slots, sizes, has_input=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.a_RI, torch.cat(matrices[0::2]).bfloat16())
    filled = torch.cat([torch.arange(start, end) for start, end, _ in slots])
    assert torch.equal(found.b_OR[filled], b_OR)
    assert found.b_OR.float().abs().sum() == b_OR.float().abs().sum()
    h, a, b, dh = (one.double() for one in (found.h_TR, found.a_RI, found.b_OR, back.dh_TR))
    assert _gap(found.h_TR, x.double() @ a.T) < 3e-3
    assert _gap(found.y_TO, x.double() @ weight.double().T + h @ b.T + bias + residual) < 1e-6
    assert _gap(back.dh_TR, dy.double() @ b) < 3e-3
    assert _gap(back.dx_TI, dy.double() @ weight.double() + dh @ a) < 3e-3
    column = 0
    for (start, end, scale), r, da, db in zip(slots, sizes, back.matrices[0::2], back.matrices[1::2], strict=True):
        assert da.dtype == db.dtype == torch.float32
        assert _gap(da, dh[:, column : column + r].T @ x.double()) < 1e-6
        assert _gap(db, scale * dy[:, start:end].double().T @ h[:, column : column + r]) < 1e-6
        column += r
    assert rank == column


@pytest.mark.parametrize("has_residual", [True, False])
@pytest.mark.parametrize("drops", [True, False])
def test_adapted_products_are_finer_than_plain_torch(own, has_residual, drops):
    """Result and gradients in bf16 against fp32: our own products round less often than torch's."""
    torch.manual_seed(0)
    slots = (Slot(0, 96, 2.0), Slot(128, 160, 0.5))
    x, weight, bias = torch.randn(70, 64), torch.randn(160, 64), torch.randn(160)
    matrices = [torch.randn(*shape) / 4 for shape in ((8, 64), (96, 8), (6, 64), (32, 6))]
    residual = [torch.randn(70, 160)] if has_residual else []
    drop = Dropped(torch.rand(70, 64) > 0.2, 1.25) if drops else None

    def errors(dtype, kernels):
        def run(x, *more):
            last = more[4] if has_residual else None
            weights = (weight.to(dtype), bias.to(dtype))
            return adapted_product(x.to(dtype), *weights, last, slots, more[:4], dtype, drop, kernels)

        return _grads(run, x.bfloat16().float(), *matrices, *residual)

    exact = errors(torch.float32, None)
    plain, fused = ([_gap(a, b) for a, b in zip(errors(torch.bfloat16, k), exact, strict=True)] for k in (None, own))
    assert max(fused) < 1e-2
    assert sum(fused) < 1.02 * sum(plain)


def _gap(found, wanted) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def test_a_small_change_of_an_adapter_survives_bf16(own):
    """Summed in fp32 and rounded once, nothing is lost on average; a sum that is rounded twice swallows half of it."""
    torch.manual_seed(0)
    x, weight = torch.randn(256, 256).bfloat16(), (torch.randn(256, 256) / 16).bfloat16()
    a, b = torch.randn(8, 256) / 16, torch.randn(256, 8) * 3e-4
    change = x.float() @ a.T @ b.T
    plain = adapted_product(x, weight, None, None, (Slot(0, 256, 1.0),), (a, 0 * b), torch.bfloat16, None, own)

    def kept(changed: torch.Tensor) -> float:
        return float(((changed.float() - plain.float()) * change).sum() / change.square().sum())

    once = adapted_product(x, weight, None, None, (Slot(0, 256, 1.0),), (a, b), torch.bfloat16, None, own)
    assert kept(once) == pytest.approx(1, abs=0.05) and kept(plain + change.bfloat16()) < 0.6


def test_products_that_torch_makes(own):
    assert multiplies(own, _bf16(64, 4), 4, 6) is own
    assert multiplies(own, _bf16(63, 4), 4) is None  # too few rows to pack a weight for
    assert multiplies(own, _bf16(64, 4), 4, 5) is None  # pairs
    assert multiplies(own, torch.zeros(64, 4), 4) is None
    assert multiplies(None, _bf16(64, 4), 4) is None
