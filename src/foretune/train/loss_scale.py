"""Loss scaling for fp16, whose smallest gradients vanish and whose largest overflow (Micikevicius et al. 2018).

torch.amp.GradScaler does the work: losses are scaled up before the backward pass, gradients down before the update, and
an update whose gradients overflowed is left out with half the scale. Its numbers are part of every checkpoint.
arXiv 1710.03740. Without fp16 nothing is scaled.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch

from foretune.errors import TrainingDiverged
from foretune.train.checkpoint import LoopState

__all__ = ["checked_norm", "loss_scaler", "update"]

LEAST_SCALE = 2.0**-10  # a scale below it means that the loss itself overflows


def loss_scaler(device: torch.device, precision: str, state: LoopState) -> torch.amp.GradScaler:
    """A scaler that goes on where `state` stands; one that does nothing unless `precision` is fp16."""
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    if scaler.is_enabled() and state.loss_scale:
        scaler.load_state_dict(
            {**scaler.state_dict(), "scale": state.loss_scale, "_growth_tracker": state.loss_scale_growth}
        )
    return scaler


def update(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, state: LoopState) -> None:
    """The optimizer's step, unless a gradient overflowed; then the scale's own, into the state of checkpoints."""
    scaler.step(optimizer)
    scaler.update()
    if scaler.is_enabled():
        found = scaler.state_dict()
        state.loss_scale, state.loss_scale_growth = float(found["scale"]), int(found["_growth_tracker"])


def checked_norm(
    scaler: torch.amp.GradScaler, loss: float, grad_norm: float, *, step: int, rate: float, calmer_rate: float
) -> float | None:
    """The gradient norm; None where an fp16 gradient overflowed, so that this update is left out.

    Raises TrainingDiverged where loss or gradient are not finite, and scaling down would not help.
    """
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return grad_norm
    if scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() > LEAST_SCALE:
        return None
    raise TrainingDiverged(
        f"step {step}: loss {loss}, gradient norm {grad_norm} at learning rate {rate:.3g}; expected finite numbers",
        fix=f"train.learning_rate = {calmer_rate:g}",
    )
