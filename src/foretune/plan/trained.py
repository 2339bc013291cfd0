"""What a job's method trains on top of what, how many bytes its base takes, and which passes it adds."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

from foretune.config import JobConfig
from foretune.config.derive import Derived
from foretune.config.job import WHOLE_METHODS
from foretune.models.shapes import Shape, classifier_parameters, lora_parameters, prompt_parameters, targeted_layers
from foretune.plan.memory import WEIGHT_BYTES, Trained

__all__ = ["ExtraPasses", "extra_passes", "trained_by"]

# Bytes of a packed weight: 8 bits, or 4 bits with one fp32 scale for 64 of them.
PACKED_BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}


def trained_by(job: JobConfig, shape: Shape, *, num_labels: int) -> Trained:
    """What the method trains; a head takes the place of the language model's. Raises ConfigError on wrong targets."""
    train, advanced = job.train, job.train.advanced
    if train.method in WHOLE_METHODS:
        return Trained(shape.parameters, shape.parameters, True)
    weight_bytes = _weight_bytes(shape, advanced.quantise_base)
    if train.method in ("prompt", "prefix"):
        extra = prompt_parameters(shape, num_prompt_tokens=advanced.num_prompt_tokens)
        if train.method == "prefix":
            extra = advanced.num_prompt_tokens * shape.num_layers * 2 * shape.kv_width
        return Trained(shape.parameters, extra, False, weight_bytes=weight_bytes)
    targets, top = advanced.target_modules, min(advanced.top_layers, shape.num_layers)
    adapters = lora_parameters(shape, rank=train.rank, target_modules=targets, top_layers=top)
    if advanced.lora_variant == "dora":
        adapters += sum(layer.num_outputs for layer in targeted_layers(shape, targets, top))
    head, body = 0, shape.parameters
    if train.method in ("classify", "regress"):
        head = classifier_parameters(shape, num_labels=1 if train.method == "regress" else max(2, num_labels))
        body = shape.body_parameters + head
    return Trained(body, adapters + head, False, targets, True, weight_bytes, top, not advanced.dropout)


def _weight_bytes(shape: Shape, bits: str) -> float:
    """Bytes of a base weight on average: linear layers are packed, embeddings, norms and heads are not."""
    if bits == "none":
        return float(WEIGHT_BYTES)
    packed = sum(layer.num_inputs * layer.num_outputs for layer in shape.layers)
    share = packed / shape.parameters
    return share * PACKED_BYTES[bits] + (1 - share) * WEIGHT_BYTES


class ExtraPasses(NamedTuple):
    """Forward passes that a method adds, as multiples of those of all training steps."""

    before: float = 0.0
    each_step: float = 0.0


def extra_passes(
    job: JobConfig, derived: Derived, *, is_probed: bool, trunk_share: float = 0.0, recomputes: bool = False
) -> ExtraPasses:
    """The reference, computed once over the data, and kto's look at mismatched answers in each step.

    dpo's reference reads its pairs, kto's answers and mismatched answers; the probe's steps hold kto's look already.
    `trunk_share` of the layers are frozen below the adapters and computed once before; `recomputes`: activations are
    computed again in each step, and that was not measured.
    """
    once = 1 / max(derived.num_epochs, 1e-9)
    before, each = trunk_share * once, 1.0 if recomputes else 0.0
    if job.train.method == "kto":
        return ExtraPasses(before + 2 * once, each + (0.0 if is_probed else 1.0))
    return ExtraPasses(before + (once if job.train.method == "dpo" else 0.0), each)
