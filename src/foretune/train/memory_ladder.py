"""What to try when memory runs out: smaller micro-batches, then recomputed activations, then what would fit."""

# SPDX-License-Identifier: Apache-2.0
#
# A rung never touches the global batch, so the gradient stays what it was: the step that failed is done again, from its
# seed, in smaller pieces.
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from foretune.engine.memory import is_out_of_memory
from foretune.errors import DoesNotFit

__all__ = ["MemorySettings", "Rung", "is_out_of_memory", "next_rung", "what_would_fit"]


@dataclass(frozen=True)
class MemorySettings:
    """What decides the memory of a step. `can_recompute`: whether this model and engine can checkpoint activations."""

    micro_batch_size: int
    global_batch_size: int
    max_seq_len: int
    method: str
    recomputes_activations: bool = False
    can_recompute: bool = True
    quantise_base: str = "none"

    @property
    def budget_tokens(self) -> int:
        """Positions that one micro-batch may compute."""
        return self.micro_batch_size * self.max_seq_len


@dataclass(frozen=True)
class Rung:
    """The settings to go on with, and one line on what changed."""

    settings: MemorySettings
    why: str


def next_rung(error: BaseException, settings: MemorySettings) -> Rung:
    """The next thing to try after `error`: half the micro-batch, down to one sample; then recomputed activations.

    The global batch stays. Raises DoesNotFit with what would fit where the ladder ends, `error` itself where it is
    not about memory.
    """
    if not is_out_of_memory(error):
        raise error
    if settings.micro_batch_size > 1:
        size = settings.micro_batch_size // 2
        passes = -(-settings.global_batch_size // size)
        why = (
            f"out of memory with {settings.micro_batch_size} samples at once: now {size}, {passes} passes a step; "
            f"the global batch stays {settings.global_batch_size}, the gradient is the same"
        )
        return Rung(replace(settings, micro_batch_size=size), why)
    if settings.can_recompute and not settings.recomputes_activations:
        why = "out of memory with 1 sample at once: activations are now computed again in the backward pass (slower)"
        return Rung(replace(settings, recomputes_activations=True), why)
    patch = what_would_fit(settings)
    lines = [f"{name} = {_toml(value)}" for name, value in patch.items()]
    raise DoesNotFit(
        f"out of memory with 1 sample of up to {settings.max_seq_len:,} tokens at once"
        f"{' and activations recomputed' if settings.recomputes_activations else ''}; nothing smaller is left to try",
        fix="; ".join(lines) if lines else "choose a smaller base, or a machine with more memory",
    ) from error


def what_would_fit(settings: MemorySettings) -> dict[str, Any]:
    """Settings of a job that takes less: adapters instead of all weights, then 4-bit weights, and shorter samples."""
    patch: dict[str, Any] = {}
    if settings.method in ("full", "pretrain"):
        patch |= {"train.method": "lora"} if settings.method == "full" else {}
    elif settings.quantise_base == "none" and settings.method not in ("prompt", "prefix"):
        patch["train.advanced.quantise_base"] = "4bit"
    if settings.max_seq_len > 256:
        patch["train.max_seq_len"] = settings.max_seq_len // 2
    return patch


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
