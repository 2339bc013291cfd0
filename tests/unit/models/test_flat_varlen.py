"""Flash attention over a token tree: the merging of parts, held with a plain kernel to the tiles and to autograd."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from foretune.models.flat_attention import flat_attention
from foretune.models.flat_rules import why_config_is_not_flat
from foretune.models.flat_segments import Heads, Segment, rotary_tables
from foretune.models.flat_varlen import (
    FLASH,
    PLAIN,
    Cross,
    Kernel,
    Ranges,
    TreeTable,
    _VarlenAttention,
    tree_table,
    varlen_attention,
    why_no_flash,
)

HEADS = Heads(4, 2, 8)
# A prefix with a branch of two leaves and a leaf, a sequence by itself, a second prefix with two leaves.
SEGMENTS = tuple(
    Segment(*one)
    for one in (
        (0, 5, 20),
        (5, 9, 14),
        (9, 11, 11),
        (11, 14, 14),
        (14, 20, 20),
        (20, 27, 27),
        (27, 30, 36),
        (30, 33, 33),
        (33, 36, 36),
    )
)


def positions(segments: tuple[Segment, ...]) -> Tensor:
    """Of each token, how many it sees before itself."""
    found: list[int] = []
    for one in segments:
        before = sum(other.end - other.start for other in segments if other.end <= one.start < other.reach)
        found += range(before, before + one.end - one.start)
    return torch.tensor(found)


def given(segments: tuple[Segment, ...], heads: Heads, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A product and rotary tables."""
    torch.manual_seed(0)
    width = (heads.num + 2 * heads.num_keys) * heads.width
    product = torch.randn(segments[-1].end, width, dtype=dtype, requires_grad=True)
    frequencies = 10.0 ** -torch.linspace(0, 3, heads.width // 2)
    cosine, sine = rotary_tables(positions(segments), frequencies, 1.0)
    return (product, cosine.double(), sine.double()) if dtype == torch.float64 else (product, cosine, sine)


def random_tree(seed: int) -> tuple[Segment, ...]:
    """A forest of up to three levels."""
    source = random.Random(seed)

    def grown(start: int, depth: int) -> list[Segment]:
        end = start + source.randint(1, 6)
        children: list[Segment] = []
        for _ in range(source.randint(2, 3) if depth < 3 and source.random() < 0.6 else 0):
            children += grown(children[-1].end if children else end, depth + 1)
        return [Segment(start, end, children[-1].end if children else end), *children]

    segments = grown(0, 0)
    for _ in range(2):
        segments += grown(segments[-1].end, 0)
    return tuple(segments)


@pytest.mark.parametrize("segments", [SEGMENTS, *(random_tree(seed) for seed in range(4))], ids=lambda s: f"{len(s)}")
def test_merged_parts_equal_the_tiles(segments: tuple[Segment, ...]) -> None:
    product, cosine, sine = given(segments, HEADS, torch.float32)
    theirs = flat_attention(product, cosine, sine, segments, HEADS)
    ours = varlen_attention(product, cosine, sine, segments, HEADS, PLAIN)
    upstream = torch.randn_like(theirs)
    (wanted,) = torch.autograd.grad(theirs, product, upstream)
    (found,) = torch.autograd.grad(ours, product, upstream)
    assert torch.allclose(ours, theirs, atol=2e-6)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6


def test_the_gradient_through_the_merge_is_exact() -> None:
    heads, segments = Heads(2, 1, 4), (Segment(0, 2, 8), Segment(2, 4, 7), Segment(4, 7, 7), Segment(7, 8, 8))
    product, cosine, sine = given(segments, heads, torch.float64)

    def attention(x_TC: Tensor) -> Tensor:
        return varlen_attention(x_TC, cosine, sine, segments, heads, PLAIN)

    assert torch.autograd.gradcheck(attention, (product,), fast_mode=True)


def test_parts_differentiated_by_themselves_would_be_wrong() -> None:
    """What the merged log-sum in the backward kernel is for: without it the shares of a part sum to one by itself."""

    def wrong(*inputs: object) -> tuple[Tensor, Tensor, Tensor]:
        dout, q, k, v, _, _, ranges, is_causal, scale = inputs
        out, lse = PLAIN.forward(q, k, v, ranges, is_causal, scale)  # type: ignore[arg-type]
        return PLAIN.backward(dout, q, k, v, out, lse, ranges, is_causal, scale)  # type: ignore[arg-type]

    product, cosine, sine = given(SEGMENTS, HEADS, torch.float32)
    grads = []
    for kernel in (PLAIN, Kernel(PLAIN.forward, wrong)):
        out = varlen_attention(product, cosine, sine, SEGMENTS, HEADS, kernel)
        grads.append(torch.autograd.grad(out.square().sum(), product)[0])
    assert float((grads[0] - grads[1]).norm() / grads[0].norm()) > 0.1


def test_a_depth_is_one_call_and_a_single_range_is_no_copy() -> None:
    table = tree_table(SEGMENTS, torch.device("cpu"))
    assert table.own.queries.tolist() == [0, 5, 9, 11, 14, 20, 27, 30, 33, 36] and table.own.max_queries == 7
    assert [cross.ranges.queries.tolist() for cross in table.crosses] == [[0, 15, 21], [0, 5]]
    assert [cross.ranges.keys.tolist() for cross in table.crosses] == [[0, 5, 8], [0, 4]]
    assert table.crosses[1].queries == slice(9, 14) and table.crosses[1].keys == slice(5, 9)
    assert tree_table(SEGMENTS, torch.device("cpu")) is table
    assert not tree_table((Segment(0, 3, 3), Segment(3, 9, 9)), torch.device("cpu")).crosses


def test_the_kernel_of_torch_takes_what_it_is_given() -> None:
    """Types, shapes and order of arguments, on torch's own description of its flash kernel: no GPU needed."""
    meta, heads = torch.device("meta"), Heads(8, 2, 64)
    table = tree_table(SEGMENTS, torch.device("cpu"))
    moved = TreeTable(
        _to(table.own, meta),
        tuple(
            Cross(*(r if isinstance(r, slice) else r.to(meta) for r in cross[:2]), _to(cross.ranges, meta))
            for cross in table.crosses
        ),
    )
    product = torch.empty(36, 12 * 64, dtype=torch.bfloat16, device=meta, requires_grad=True)
    tables = (torch.empty(36, 1, 32, device=meta) for _ in range(2))
    out = _VarlenAttention.apply(product, *tables, moved, heads, FLASH)  # type: ignore[no-untyped-call]
    assert out.shape == (36, 8 * 64) and out.dtype == torch.bfloat16
    out.sum().backward()
    assert product.grad is not None and product.grad.shape == product.shape


def _to(ranges: Ranges, device: torch.device) -> Ranges:
    return ranges._replace(queries=ranges.queries.to(device), keys=ranges.keys.to(device))


def test_models_run_flat_on_a_gpu_where_flash_attention_fits() -> None:
    llama = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32}
    assert why_config_is_not_flat(llama, device="cuda") == ""
    assert "width 300" in why_config_is_not_flat(llama | {"head_dim": 300}, device="cuda")
    assert why_config_is_not_flat(llama | {"head_dim": 300}, device="cpu") == ""
    assert "mps" in why_config_is_not_flat(llama, device="mps")
    assert why_no_flash(torch.device("cpu"), "fp32") == ""
    assert "bf16" in why_no_flash(torch.device("cuda"), "fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("segments", [SEGMENTS, random_tree(1)], ids=lambda s: f"{len(s)}")
def test_flash_attention_equals_the_plain_kernel(segments: tuple[Segment, ...]) -> None:
    heads = Heads(8, 2, 64)
    product, cosine, sine = given(segments, heads, torch.float32)
    upstream = torch.randn(segments[-1].end, heads.num * heads.width)
    wanted = varlen_attention(product, cosine, sine, segments, heads, PLAIN)
    (wanted_grad,) = torch.autograd.grad(wanted, product, upstream)
    theirs = product.detach().to("cuda", torch.bfloat16).requires_grad_()
    found = flat_attention(theirs, cosine.cuda(), sine.cuda(), segments, heads)
    (found_grad,) = torch.autograd.grad(found, theirs, upstream.to("cuda", torch.bfloat16))
    assert float((found.float().cpu() - wanted).norm() / wanted.norm()) < 1e-2
    assert float((found_grad.float().cpu() - wanted_grad).norm() / wanted_grad.norm()) < 1.5e-2
