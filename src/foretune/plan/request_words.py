"""Words of a request that must be known: methods, parallelism and frameworks, with what a typo may have meant."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from foretune.plan.frameworks import framework_of

__all__ = ["METHODS", "word_faults"]

METHODS = (
    "lora",
    "qlora",
    "full",
    "prompt",
    "prefix",
    "classify",
    "regress",
    "dpo",
    "orpo",
    "kto",
    "pretrain",
    "adapter",
)
FRAMEWORKS = (
    *("foretune", "hf", "transformers", "trl", "peft", "litgpt", "axolotl", "torchtune", "unsloth", "llama-factory"),
    *("deepspeed", "megatron", "nemo", "torchtitan", "accelerate", "mlx", "verl", "openrlhf", "lightning", "fsdp"),
)
PARALLEL = re.compile(
    r"(ddp|dp ?\d+|hsdp|fsdp ?\d*|zero[ -]?[123]|deepspeed|megatron|(tp|pp|vp|cp|ep|sp)[ =_-]?\d+|no.?shard|full_shard|"
    r"shard_grad_op|(cpu )?offload|none|single|[,;+x ]+)",
)
PARALLEL_WORDS = ("ddp", "fsdp", "zero1", "zero2", "zero3", "tp8", "pp2", "dp4", "cp2", "ep8", "hsdp")
TYPO = 0.8


def word_faults(values: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each word that is not known; a framework nobody knows is allowed, a mistyped one is not."""
    method, spread, framework = (str(values.get(name) or "").strip().lower() for name in WORDED)
    if method and method not in METHODS:
        yield f"--method {values['method']}: expected one of {', '.join(METHODS)}{_meant(method, METHODS)}"
    rest = PARALLEL.sub("", spread)
    if rest:
        words = f"expected ddp, fsdp, zero1, zero2, zero3, or degrees such as `tp8 pp2`{_meant(spread, PARALLEL_WORDS)}"
        yield f"--parallelism {values['parallelism']}: {words}"
    if framework and framework_of(framework).name == "any" and framework not in FRAMEWORKS:
        meant = _meant(framework, FRAMEWORKS, TYPO)
        if meant:
            yield f"--framework {values['framework']}: not known{meant}"


def _meant(word: str, known: tuple[str, ...], cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f"; did you mean `{close[0]}`?" if close else ""


WORDED = ("method", "parallelism", "framework")
