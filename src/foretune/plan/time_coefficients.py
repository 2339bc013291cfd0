"""The fitted numbers of the time model: coefficients, factors by device, framework and method, and intervals."""

# SPDX-License-Identifier: Apache-2.0
#
# benchmarks/plan_fit_time.py writes coefficients_time.json; nothing here is set by hand but the families' words.
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from foretune.hardware.devices import Device, resolve_device
from foretune.plan.setup import Setup

__all__ = ["Family", "TimeModel", "effects_of", "regime_of", "time_family", "time_model"]

MOST_SHARE = 0.25  # logarithm of the share of the peak over the usual one: 0.9 of the peak at most
SMALL = 8  # devices of one server


@dataclass(frozen=True)
class Family:
    """Frameworks that run alike. `is_fused`: kernels are fused or graphs compiled, so that launching costs little.

    `trains_by_hooks`: full training goes through hooks for each weight, as in DeepSpeed under the HF Trainer.
    """

    name: str
    words: tuple[str, ...]
    is_fused: bool = False
    trains_by_hooks: bool = False


# The first family one of whose words stands in the framework's name.
FAMILIES: tuple[Family, ...] = (
    Family("megatron-bridge", ("megatron-bridge", "megatron bridge", "mbridge"), is_fused=True),
    Family("automodel", ("automodel",), is_fused=True),
    Family("megatron-deepspeed", ("megatron-deepspeed",), is_fused=True),
    Family("nemo", ("nemo", "nvidia", "ngc", "megatron", "mxnet", "dgl", "cuda"), is_fused=True),
    Family("rocm", ("rocm", "llmboost", "primus"), is_fused=True),
    Family("jax", ("maxtext", "jax", "flax"), is_fused=True),
    Family("llm-foundry", ("foundry", "composer")),
    Family("litgpt", ("litgpt", "lit-gpt", "lit-llama", "fabric")),
    Family("torchtune", ("torchtune", "torchtitan")),
    Family("yafsdp", ("yafsdp",)),
    Family("fsdp_qlora", ("fsdp_qlora", "fsdp-qlora")),
    Family("deepspeed-chat", ("deepspeed-chat", "deepspeed chat")),
    Family("unsloth", ("unsloth",), is_fused=True),
    Family(
        "hf",
        ("hf", "hugging", "transformers", "peft", "trl", "axolotl", "llama-factory", "swift", "alpaca", "qlora"),
        trains_by_hooks=True,
    ),
    Family("llm.c", ("llm.c", "nanogpt", "nanochat"), is_fused=True),
    Family("foretune", ("foretune",)),
    Family("pytorch", ("pytorch", "fsdp", "torch"), is_fused=False),
)
OTHER = Family("other", ())


@cache
def time_family(framework: str) -> Family:
    """The family of a framework's name; `other` where it is not known."""
    text = framework.lower()
    return next((family for family in FAMILIES if any(word in text for word in family.words)), OTHER)


@dataclass(frozen=True)
class TimeModel:
    """All fitted numbers. `factors` are logarithms by effect, of seconds (`share:` effects of the peak reached).

    `intervals` are the factors (low, high) on hours that hold eight runs of ten, by regime. `seen` are the pairs of
    framework and device, and their methods, that the fit has learnt from. `centres` are the logarithms by which runs of
    a kind that a fit has not seen were slower than it said, by regime.
    """

    coefficients: Mapping[str, float]
    factors: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    seen: frozenset[str]
    calibration: Mapping[str, float]
    date: str
    centres: Mapping[str, float] = field(default_factory=dict)


@cache
def time_model() -> TimeModel:
    """The numbers that the package brings."""
    tree = json.loads(files("foretune.plan").joinpath("coefficients_time.json").read_text(encoding="utf-8"))
    return TimeModel(
        coefficients=tree["coefficients"],
        factors=tree["factors"],
        intervals={regime: (low, high) for regime, (low, high) in tree["intervals"].items()},
        seen=frozenset(tree["seen"]),
        calibration=tree["calibration"],
        date=tree["date"],
        centres=tree["centres"],
    )


def effects_of(setup: Setup) -> tuple[str, ...]:
    """Names of the effects that a setup's time carries; those that the fit has never seen count nothing."""
    device = resolve_device(setup.device, setup.device_memory_gb or None).device
    known = time_family(setup.framework)
    family, style = known.name, "fused" if known.is_fused or setup.is_compiled else "eager"
    effects = [f"share:{architecture(device)}", f"share:{device.name}"]
    effects += [f"style:{style}|{'full' if setup.trains_base else 'frozen'}", f"family:{family}"]
    effects += [f"pair:{family}|{device.name}", f"method:{family}|{method_group(setup)}"]
    if setup.method in ("peft", "prompt", "adapter") or setup.peft_kind == "dora":
        effects.append(f"kind:{setup.peft_kind or setup.method}")
    if setup.shape.is_encoder_decoder:
        effects.append("shape:encoder-decoder")
    if setup.shape.state_flops:
        effects.append("shape:recurrent")
    return tuple(effects)


def architecture(device: Device) -> str:
    """The generation that devices share: vendor and compute capability, or their kind."""
    return f"{device.vendor} {device.capability:g}" if device.capability else f"{device.vendor} {device.kind}"


def method_group(setup: Setup) -> str:
    """Methods that cost alike: full, pretrain, frozen bases of any format, and preference training."""
    if setup.objective in ("pretrain", "dpo", "ppo"):
        return str(setup.objective)
    return "full" if setup.trains_base else "frozen"


def seen_key(setup: Setup) -> str:
    """The pair of framework and device, with the method, whose runs a fit may have learnt from."""
    device = resolve_device(setup.device, setup.device_memory_gb or None).device
    return f"{time_family(setup.framework).name}|{device.name}|{method_group(setup)}"


def regime_of(setup: Setup, model: TimeModel | None = None) -> str:
    """The kind of run whose errors stand for this one's: number of devices, and whether its like was learnt from."""
    seen = (model or time_model()).seen
    known = "known" if seen_key(setup) in seen else "new"
    if setup.objective in ("ppo", "dpo"):
        return f"{known} preference"
    if setup.objective == "pretrain" or setup.num_gpus > SMALL:
        return f"{known} large"
    return f"{known} single" if setup.num_gpus == 1 else f"{known} small"


def centre_of(setup: Setup, model: TimeModel) -> float:
    """Logarithm by which runs of this kind are usually slower than the coefficients say; 0.0 for known kinds."""
    return model.centres.get(regime_of(setup, model), 0.0)


def log_factor(setup: Setup, factors: Mapping[str, float]) -> tuple[float, float]:
    """Logarithms of the factor on seconds and of that on the share of the peak."""
    seconds = share = 0.0
    for effect in effects_of(setup):
        value = factors.get(effect, 0.0)
        if effect.startswith("share:"):
            share += value
        else:
            seconds += value
    return seconds, share


def shares(share: float) -> float:
    """The share's factor from its logarithm, kept where no device reaches more than its peak."""
    return math.exp(max(-2.0, min(MOST_SHARE, share)))
