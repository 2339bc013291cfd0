"""What a row says of its adapters: rank, targets, number of trained parameters, embeddings trained beside them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import Any

from foretune.errors import ConfigError
from foretune.models.shapes import Shape, lora_parameters
from foretune.plan.cells import Row
from foretune.plan.frameworks import Framework

__all__ = ["adapters_of"]

USUAL_RANK = 16
RANKS = (4, 8, 16, 32, 64, 128, 256)
RANK = r"(?:lora_?r|lora[ _-]rank|\brank|\br)[ =:_-]{0,2}(\d{1,4})\b"
TRAINABLE = r"trainable(?: parameters| params)?[ :=]{1,2}([\d,]{3,})"
PEFT_KIND = r"\b(\w+)--|adapter (v\d)|\b(dora|rslora|ia3|vera|boft|oft|loha|lokr|adalora)\b"

# How people write targets in a word or two: `q,v`, `q,v+k+o+mlp+head`, `all-linear`.
TARGET_WORDS = {
    "q": ("q_proj",),
    "k": ("k_proj",),
    "v": ("v_proj",),
    "o": ("o_proj",),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
SPOKEN_TARGETS = re.compile(RANK + r" ((?:[qkvo]|mlp|head)(?:[,+](?:[qkvo]|mlp|head))*)\b")
USUAL_TARGETS = (("q_proj", "v_proj"), (), ("q_proj", "k_proj", "v_proj", "o_proj"), ("all-linear",))


def adapters_of(row: Row, shape: Shape, framework: Framework) -> dict[str, Any]:
    """The fields of a Setup that describe its adapters, by name."""
    hints = row.hints
    spoken, trainable = re.search(RANK, hints), re.search(TRAINABLE, hints)
    stated = int(trainable.group(1).replace(",", "")) if trainable else 0
    rank, targets = int(spoken.group(1)) if spoken else 0, _targets(hints)
    if stated and not targets:
        rank, targets = _deduced(shape, stated, rank)
    if not rank:
        rank = framework.rank or USUAL_RANK
        if "lora" in row.text("method").lower() or not row.text("method"):
            row.assume("rank", f"rank not given: {rank}")
    return {
        "rank": rank,
        "target_modules": targets or framework.targets or ("all-linear",),
        "trains_embeddings": bool(re.search(r"train\w* (the )?embedding|\(emb\)|modules_to_save", hints)),
        "stated_parameters": stated,
        "adapts_head": bool(re.search(r"\+(lm_)?head\b|'lm_head'", hints)),
        "eval_batch_size": _eval_batch(hints),
        "peft_kind": _first(re.search(PEFT_KIND, hints)),
    }


def _first(found: re.Match[str] | None) -> str:
    return next((group for group in found.groups() if group), "") if found else ""


def _deduced(shape: Shape, stated: int, rank: int) -> tuple[int, tuple[str, ...]]:
    """Rank and targets whose LoRA parameters are the stated number, as far as usual ones give it."""
    for targets in USUAL_TARGETS:
        for candidate in (rank,) if rank else RANKS:
            try:
                counted = lora_parameters(shape, rank=candidate, target_modules=targets)
            except ConfigError:
                break
            if abs(counted / stated - 1) < 0.02:
                return candidate, targets
    return rank, ()


def _targets(hints: str) -> tuple[str, ...]:
    listed = re.search(r"targets? (?:\[([^\]]*)\]|(model\.[\w.]+))", hints)
    if listed:
        return tuple(re.findall(r"[a-z_0-9.]+", listed.group(1) or listed.group(2)))
    if re.search(r"all.?linear", hints):
        return ("all-linear",)
    spoken = SPOKEN_TARGETS.search(hints)
    parts = re.split(r"[,+]", spoken.group(2)) if spoken else []
    return tuple(name for part in parts for name in TARGET_WORDS.get(part, ()))


def _eval_batch(hints: str) -> int:
    found = re.search(r"(?:eval|generation)\w*(?: batch(?:es)?| batch size)(?: of| size)?[ =]?(\d+)", hints)
    return int(found.group(1)) if found else 0
