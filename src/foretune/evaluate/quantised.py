"""The fine-tuned model in 8 or 4 bits, and the gates that say how much quality that may cost."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from foretune.errors import ConfigError
from foretune.records.evaluation import QuantisedGate
from foretune.stats.paired import PairedResult
from foretune.stats.power import samples_for_noninferiority

if TYPE_CHECKING:
    from foretune.engine.engine import Engine

__all__ = ["GATES", "quantise_engine", "quantised_gate", "quantised_name"]

GATES: dict[str, float] = {"8bit": 0.05, "4bit": 0.10}  # most of the metric that may be lost, as a share of it
PREFIX = "fine_tuned_"


def quantised_name(bits: str) -> str:
    """The name of the system: `fine_tuned_8bit`."""
    return f"{PREFIX}{bits}"


def quantise_engine(engine: Engine, bits: Literal["8bit", "4bit"]) -> None:
    """Fold adapters in and put every linear layer but the heads into `bits`, weights only.

    Raises ConfigError where the model was trained on a base that is quantised already.
    """
    from foretune.models.adapter import merge_lora
    from foretune.models.quantise import quantise_layers

    loaded = engine.loaded
    if any(module.__class__.__name__ == "QuantisedLinear" for module in loaded.model.modules()):
        raise ConfigError(
            "the fine-tuned model is quantised already (train.advanced.quantise_base)",
            fix="evaluate.advanced.quantised = []",
        )
    merge_lora(loaded)
    quantise_layers(loaded.model, bits)
    loaded.model.eval()


def quantised_gate(bits: str, whole: float, packed: float, result: PairedResult) -> QuantisedGate:
    """Whether the loss stays within the gate; `result` is packed minus whole on the same samples.

    holds: the one-sided lower bound of the change lies above the allowed loss; breached: the measured loss is larger
    than allowed; else unproven, with the samples that would prove it for a model that lost nothing.
    """
    allowed = GATES[bits] * whole
    loss = (whole - packed) / whole if whole > 0 else 0.0
    status: Literal["holds", "breached", "unproven"] = "unproven"
    if whole > 0 and loss > GATES[bits]:
        status = "breached"
    elif whole > 0 and result.lower_bound > -allowed:
        status = "holds"
    needed = samples_for_noninferiority(result.spread, allowed, result.alpha) if allowed > 0 else None
    change = f"a {'gain' if loss < 0 else 'loss'} of {abs(loss):.1%}"
    said = f"{bits}: {packed:.3f} instead of {whole:.3f}, {change}; a loss of {GATES[bits]:.0%} is allowed"
    proof = f", {-result.lower_bound / whole:.1%} is the worst left open" if whole > 0 and status != "breached" else ""
    return QuantisedGate(
        system=quantised_name(bits),
        whole=whole,
        quantised=packed,
        loss_fraction=loss,
        allowed_fraction=GATES[bits],
        status=status,
        n_needed=needed if status == "unproven" else None,
        reason=f"{said}{proof}",
    )
