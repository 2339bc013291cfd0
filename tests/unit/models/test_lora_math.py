"""Adapted products under dropout: the mask's rate, its scale, and gradients equal to autograd's."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from foretune.models.lora_math import Slot, adapted_product, dropped


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_a_mask_drops_the_nearest_share_of_256_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 333)
    drop = dropped(x, rate)
    assert drop is not None
    out_of_256 = round(256 * rate)
    share = 1 - drop.keep_TI.float().mean().item()
    assert share == pytest.approx(out_of_256 / 256, abs=4 * (rate / 333_000) ** 0.5)
    assert drop.of(x).mean().item() == pytest.approx(1, abs=0.01)
    assert drop.scale == 256 / (256 - out_of_256)


def test_a_mask_repeats_with_the_seed_and_is_none_without_dropout() -> None:
    x = torch.ones(7, 13)
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drop = dropped(x, 0.5)
        assert drop is not None
        masks.append(drop.keep_TI)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert dropped(x, 0.0) is None and dropped(x, 0.001) is None


def test_gradients_under_dropout_are_those_of_autograd() -> None:
    torch.manual_seed(1)
    x, weight, residual = torch.randn(9, 6), torch.randn(10, 6), torch.randn(9, 10)
    slots = (Slot(0, 4, 0.5), Slot(4, 10, 2.0))
    matrices = (torch.randn(3, 6), torch.randn(4, 3), torch.randn(2, 6), torch.randn(6, 2))
    drop = dropped(x, 0.4)
    assert drop is not None
    leaves = [tensor.clone().requires_grad_() for tensor in (x, residual, *matrices)]
    ours = adapted_product(leaves[0], weight, None, leaves[1], slots, tuple(leaves[2:]), torch.float32, drop)
    weights = torch.randn_like(ours)
    found = torch.autograd.grad((ours * weights).sum(), leaves)
    seen = leaves[0] * drop.keep_TI * drop.scale
    parts = [
        functional.linear(functional.linear(seen, a), b) * slot.scale
        for slot, a, b in zip(slots, leaves[2::2], leaves[3::2], strict=True)
    ]
    plain = leaves[1] + leaves[0] @ weight.T + torch.cat(parts, 1)
    torch.testing.assert_close(ours, plain)
    for one, other in zip(found, torch.autograd.grad((plain * weights).sum(), leaves), strict=True):
        torch.testing.assert_close(one, other)
