"""Seconds of one micro-batch by component, from its work and the fitted coefficients: the whole time model."""

# SPDX-License-Identifier: Apache-2.0
#
# t = max(device, launches) x (1 + bubble) + exposed communication + update / micro-batches. Arithmetic only, so that a
# fit can hand in arrays. The coefficients stand in coefficients_time.json, what each means in the fit that writes it,
# benchmarks/plan_fit_time.py.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMULAS", "seconds"]

A100_PEAK = 312e12  # FLOP/s in 16 bits
NODE_LINKS = 8.0  # network links of a server, which a sum over all devices shares and an exchange of pairs does not

FORMULAS: dict[str, str] = {
    "products": "2 tokens x weights x passes / (16-bit peak x gain of fp8 or fp4 x share reached)",
    "attention": "4 tokens x attended x width x layers x passes / (share reached x peak); scores in eager kernels",
    "weights": "weight bytes read a pass x passes / memory bandwidth",
    "elementwise": "bytes of the values between products x passes / memory bandwidth",
    "adapters": "bytes in and out of adapted layers, their casts and dropout / memory bandwidth",
    "dequantisation": "quantised weights unpacked to 16 bits each pass / memory bandwidth",
    "logits": "tokens x vocabulary x bytes a logit / memory bandwidth",
    "launch": "what launching kernels from Python takes beyond the device's own time",
    "bubble": "(stages - 1) / (micro-batches x virtual stages) of the above",
    "sharding": "gathered weights and scattered gradients / link, the part that computing does not hide",
    "parallel": "sums over tensor-parallel devices and exchange of experts' tokens / link",
    "gradients": "gradients summed over copies once an update / link",
    "update": "bytes of the optimiser's state once an update / memory bandwidth",
    "offload": "bytes moved to and from the processor's memory / PCIe",
    "evaluation": "evaluations during the run, as a share of the device's time",
    "generation": "tokens generated one by one: weights read for each / memory bandwidth",
}


def seconds(w: Any, c: Mapping[str, float], share: Any = 1.0) -> dict[str, Any]:
    """Seconds of each component of one micro-batch of the work `w`.

    `share` scales the share of the peak that this device reaches. `w` has the fields of Work, as numbers or arrays.
    """
    recompute = w.recompute + c["unknown_recompute"] * w.recompute_unknown
    passes = 1.0 + w.backward + w.trains_base + recompute + w.is_dpo
    parts = _device_parts(w, c, share, passes, recompute)
    device = sum(parts.values())
    launches = _launches(w, c, recompute)
    joint = (device ** c["overlap"] + launches ** c["overlap"]) ** (1.0 / c["overlap"])
    parts["launch"] = joint - device
    parts["bubble"] = c["bubble"] * w.bubble * joint
    parts["evaluation"] = c["evaluation"] * w.evaluates * joint
    parts.update(_exchange_parts(w, c, joint, passes))
    return parts


def _device_parts(w: Any, c: Mapping[str, float], share: Any, passes: Any, recompute: Any) -> dict[str, Any]:
    rate = w.peak * c["share"] * share * (1.0 + (c["moe_share"] - 1.0) * w.is_moe)
    gain = 1.0 + w.has_fp8 * (c["fp8_gain"] - 1.0)
    gain = gain * (1.0 + w.has_fp4 * (c["fp4_gain"] - 1.0)) * (1.0 + w.is_lowest * (c["chosen_gain"] - 1.0))
    gain = gain * w.fp32_gain
    small = 1.0 + c["small_tokens"] * (w.peak / w.bandwidth / 153.0) / w.tokens
    attention_passes = 1.0 + 2.0 * w.backward + recompute
    eager = 1.0 - w.is_fused
    # Kernels of the general libraries were written for the A100 and gain less than the peak on later devices.
    kernels = w.is_fused * rate * c["attention_share"]
    kernels = kernels + eager * c["attention_rate"] * (w.peak / A100_PEAK) ** 0.5
    adapter_passes = 2.0 + recompute
    unpacked = w.nf4_weights * c["nf4"] * (1.0 + 0.06 * w.is_double_quantised) + w.int4_weights * c["int4"]
    return {
        "products": (w.body_flops * passes / gain + w.head_flops * (2.0 + w.trains_base)) * small / rate,
        "attention": w.attention_flops * attention_passes / kernels
        + c["score_passes"] * w.score_bytes * attention_passes / w.bandwidth,
        "weights": c["weight_reads"] * w.weight_bytes * passes / w.bandwidth,
        "elementwise": (eager * c["values_eager"] + w.is_fused * c["values_fused"])
        * w.value_bytes
        * passes
        / 2.0
        / w.bandwidth,
        "adapters": c["adapter_passes"] * w.adapter_bytes * adapter_passes / w.bandwidth,
        "dequantisation": (unpacked * 2.5 + c["int8"] * (w.int8_weights + 2.0 * w.int8_values))
        * adapter_passes
        / w.bandwidth,
        "logits": c["logit_bytes"] * w.logits / w.bandwidth,
    }


def _launches(w: Any, c: Mapping[str, float], recompute: Any) -> Any:
    """Seconds that Python needs to launch the kernels of all layers and passes."""
    passes = 1.0 + 1.3 * w.backward + recompute + 0.3 * w.trains_base
    layer = c["launch"] + c["launch_adapter"] * w.adapter_modules + c["launch_quantised"] * w.quantised_modules
    hooks = 1.0 + (c["launch_sharded"] - 1.0) * w.is_sharded
    hooks = hooks * (1.0 + (c["launch_hooks"] - 1.0) * w.is_trained_by_hooks)
    fused = 1.0 + (c["launch_fused"] - 1.0) * w.is_fused
    waits = c["launch_moe"] * w.is_moe * w.layers * passes  # the processor waits to learn where tokens go
    return fused * (w.layers * passes * layer * hooks + c["launch_step"]) + waits


def _exchange_parts(w: Any, c: Mapping[str, float], joint: Any, passes: Any) -> dict[str, Any]:
    inner = (1.0 - w.is_pcie) * w.link * c["link_share"] + w.is_pcie * c["pcie_rate"]
    outer = inner * (1.0 + (c["network_share"] - 1.0) * w.crosses_nodes)
    far = inner * (1.0 + (c["network_share"] / NODE_LINKS * 2.0 - 1.0) * w.experts_cross)
    gather = w.gathered_bytes * (2.0 + w.trains_base) / outer
    hidden = (joint**3 + gather**3) ** (1.0 / 3.0) - joint
    # The smaller of the two, without a comparison: what cannot be hidden behind the other.
    smaller = gather * joint / (gather + joint)
    return {
        "sharding": hidden + c["sharding_exposed"] * smaller,
        "parallel": c["tensor_exposed"] * w.tensor_bytes * 2.0 * passes / 3.0 / inner
        + c["expert_exposed"] * w.expert_bytes * 2.0 / far,
        "gradients": c["gradients_exposed"] * 2.0 * w.gradient_bytes * w.steps / outer,
        "update": c["update_bytes"] * w.optimiser_parameters * w.steps / w.bandwidth,
        "offload": w.moved_parameters / c["offload_rate"],
        "generation": c["generation"] * w.generated_bytes / w.bandwidth + w.is_ppo * c["ppo"] * joint,
    }
