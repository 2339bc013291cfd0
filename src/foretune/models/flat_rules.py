"""Which base models run as flat tokens, judged by their config alone, so that the plan knows it before torch does."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from foretune.config.job import LORA_METHODS, WHOLE_METHODS, TrainConfig
from foretune.data.token_tree import BF16_ROW_MULTIPLE

__all__ = [
    "BF16_KERNELS_FILE",
    "FLAT_FAMILIES",
    "KERNELS_FILE",
    "are_kernels_built",
    "engine_line",
    "engine_name",
    "frozen_flat_parameters",
    "has_bf16_dots",
    "has_bf16_products",
    "has_bf16_tiles",
    "row_multiple",
    "why_config_is_not_flat",
    "why_method_is_not_flat",
    "why_not_flat_in",
]

FLAT_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# Rotary scalings whose frequencies depend on nothing but the config.
FIXED_ROTARY = ("default", "linear", "llama3", "yarn")
# Raised whenever an engine's speed or memory changes, so that older runs no longer speak for it.
ENGINES = {"fused": "flat-4-fused", "flat": "flat-2", "padded": "padded-1"}
KERNELS_FILE = "kernels_plain.so"  # built wherever any of the fused kernels is
BF16_KERNELS_FILE = "kernels_avx512bf16.so"  # with bf16 dot products
OWN_ROW_MULTIPLE = 32  # tokens of a pass in bf16 are filled up to it where the products are our own
FLASH_MULTIPLE, FLASH_WIDEST = 8, 256  # widths of a head that flash attention takes
DEFAULT_WINDOWS = {"mistral": 4096}  # of a config.json that does not say; transformers 5


def why_config_is_not_flat(config: Mapping[str, Any], *, device: str = "cpu", max_seq_len: int = 0) -> str:
    """Why a model of this config.json cannot run as flat tokens on `device` ("cpu", "cuda"); empty where it can.

    A sliding window is harmless where `max_seq_len` (0: unknown) stays within it.
    """
    family = str(config.get("model_type", "unknown"))
    if family not in FLAT_FAMILIES:
        return f"{family} is not one of the flat families ({', '.join(FLAT_FAMILIES)})"
    if device not in ("cpu", "cuda"):
        return f"flat attention has no kernel for {device} yet"
    if device == "cuda" and (why := _why_no_flash(config)):
        return why
    window = _window(config, family)
    if window and not 0 < max_seq_len <= window:
        return f"attention slides over {window} tokens and samples may be longer"
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rotary = scaling.get("rope_type", scaling.get("type", "default"))
    if rotary not in FIXED_ROTARY:
        return f"rotary embedding {rotary!r} depends on the length of the input"
    if config.get("hidden_act", "silu") != "silu":
        return f"activation {config['hidden_act']!r} is not silu"
    return "the config asks for attention dropout" if config.get("attention_dropout") else ""


def why_not_flat_in(config: Mapping[str, Any], train: TrainConfig, *, device: str, max_seq_len: int) -> str:
    """Why a job's training cannot run as flat tokens: by its own wish, its method or its model; empty where it can."""
    if train.advanced.engine == "padded":
        return 'train.advanced.engine = "padded"'
    if train.advanced.precision == "fp16":
        return "the run computes in fp16, flat tokens in bf16 or fp32"
    if device == "cuda" and train.advanced.precision == "fp32":
        return "flash attention computes in bf16, and this run in fp32"
    return why_method_is_not_flat(train) or why_config_is_not_flat(config, device=device, max_seq_len=max_seq_len)


def frozen_flat_parameters(
    config: Mapping[str, Any], train: TrainConfig, num_parameters: int, *, device: str, max_seq_len: int
) -> int:
    """Base weights that our own decoder would hold frozen; 0 where it does not run or the method trains them."""
    if train.method in WHOLE_METHODS or why_not_flat_in(config, train, device=device, max_seq_len=max_seq_len):
        return 0
    return num_parameters


def why_method_is_not_flat(train: TrainConfig) -> str:
    """Why a method cannot run as flat tokens, whatever the model; empty where it can."""
    if train.method == "prefix":
        return "learned keys and values stand before every sample"
    if train.method == "regress":
        return "a number is read off each sample"
    if train.advanced.quantise_base != "none":
        return "the base is quantised"
    is_dora = train.method in LORA_METHODS and train.advanced.lora_variant == "dora"
    return "DoRA layers are no plain sums" if is_dora else ""


def _why_no_flash(config: Mapping[str, Any]) -> str:
    """Why a model's heads do not fit the flash attention of a GPU; empty where they do."""
    width = config.get("head_dim") or config.get("hidden_size", 0) // max(1, config.get("num_attention_heads", 1))
    fits = width % FLASH_MULTIPLE == 0 and 0 < width <= FLASH_WIDEST
    return "" if fits else f"flash attention has no kernel for heads of width {width}"


def _window(config: Mapping[str, Any], family: str) -> int:
    kinds = config.get("layer_types")
    if kinds is not None and "sliding_attention" not in kinds:
        return 0
    if kinds is None and family.startswith("qwen") and not config.get("use_sliding_window"):
        return 0
    return int(config.get("sliding_window", DEFAULT_WINDOWS.get(family, 0)) or 0)


def engine_name(reason: str) -> str:
    """The engine with the version of its speed, under which a machine's record of predictions is kept."""
    return ENGINES["padded" if reason else "fused" if are_kernels_built() else "flat"]


def are_kernels_built() -> bool:
    """Whether this installation has fused CPU kernels; FORETUNE_KERNELS=off leaves them out."""
    is_off = os.environ.get("FORETUNE_KERNELS", "").lower() in ("0", "off", "no")
    return not is_off and Path(__file__).with_name(KERNELS_FILE).is_file()


@lru_cache(maxsize=1)
def _processor_flags() -> frozenset[str]:
    """What the processor can do, in the words of Linux; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def has_bf16_dots() -> bool:
    """Whether the processor has bf16 dot products (AVX512-BF16)."""
    return "avx512_bf16" in _processor_flags()


def has_bf16_tiles() -> bool:
    """Whether the processor has bf16 matrix tiles (AMX)."""
    return "amx_bf16" in _processor_flags()


def has_bf16_products() -> bool:
    """Whether products in bf16 are our own: built, and not slower than torch's on this processor."""
    is_built = are_kernels_built() and Path(__file__).with_name(BF16_KERNELS_FILE).is_file()
    return is_built and has_bf16_dots() and not has_bf16_tiles()


def row_multiple(precision: str, *, has_kernels: bool = True) -> int:
    """Tokens and predictions of a flat pass are filled up to a multiple of this.

    torch keeps a compiled kernel for every shape of a bf16 product; our own products have one for all.
    """
    if precision != "bf16":
        return 1
    return OWN_ROW_MULTIPLE if has_kernels and has_bf16_products() else BF16_ROW_MULTIPLE


def engine_line(reason: str, *, dropout: float, without: Sequence[str] = ()) -> str:
    """One line on the engine that a run uses: why not flat tokens (`reason`), or what LoRA `dropout` keeps it from.

    `without` are the techniques that the job switches off.
    """
    if reason:
        return f"engine: the transformers class on padded batches, because {reason}"
    if without:
        return f"engine: flat tokens, switched off by train.advanced.without: {', '.join(without)}"
    if dropout:
        return (
            f"engine: flat tokens, no padding; LoRA dropout {dropout:g} keeps shared prefixes apart, "
            "train.advanced.dropout = 0 computes them once"
        )
    return "engine: flat tokens, no padding; a prefix that samples share is computed once"
