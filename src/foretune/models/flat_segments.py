"""Segments of flat tokens, heads, and rotary embedding: what every attention over flat tokens shares.

Rotary embedding: Su et al. 2021, arXiv 2104.09864.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, J heads of any kind, E width of a head.
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Heads", "Segment", "on_device", "rotary_tables", "rotate"]


class Segment(NamedTuple):
    """Tokens [start, end); those in [end, reach) continue it and see all of it."""

    start: int
    end: int
    reach: int


class Heads(NamedTuple):
    """Query heads, key heads, width of one."""

    num: int
    num_keys: int
    width: int


def rotary_tables(positions_T: Tensor, inverse_frequencies: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, [T, 1, E / 2] each, always in fp32."""
    angles = positions_T.float()[:, None, None] * inverse_frequencies.float()
    return angles.cos() * scale, angles.sin() * scale


def rotate(x_TJE: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Rotate heads in place, in the type of the tables; minus `sine` turns back."""
    half = x_TJE.shape[-1] // 2
    first, second = x_TJE[..., :half].to(cosine.dtype), x_TJE[..., half:].to(cosine.dtype)
    turned = (first * cosine).addcmul_(second, sine, value=-1)
    x_TJE[..., half:] = (second * cosine).addcmul_(first, sine)
    x_TJE[..., :half] = turned


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy of a small array on `device`; the processor does not wait for a GPU to have taken it."""
    tensor = torch.from_numpy(array.copy())
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
