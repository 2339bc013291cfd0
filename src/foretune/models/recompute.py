"""Activations of a transformers model computed again in the backward pass, block by block, instead of being kept.

Chen et al. 2016, arXiv 1604.06174. The numbers are the same: random states are restored before a block runs again.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["can_recompute", "keep_activations", "recompute_activations"]

SETTINGS = {"use_reentrant": False}


def can_recompute(model: nn.Module) -> bool:
    """Whether the model's class knows how."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def recompute_activations(model: Any) -> None:
    """From now on, in training."""
    if hasattr(model, "activation_checkpointing_enable"):  # what newer versions call it
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=SETTINGS)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=SETTINGS)


def keep_activations(model: Any) -> None:
    """Undo `recompute_activations`; nothing where it was not called."""
    if not any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return
    if hasattr(model, "activation_checkpointing_disable"):
        model.activation_checkpointing_disable()
    else:
        model.gradient_checkpointing_disable()
