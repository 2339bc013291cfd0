"""What training leaves: an adapter in PEFT's format, or a whole model in transformers' format; safetensors only."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from foretune.models.adapter import save_adapter
from foretune.models.load import LoadedModel
from foretune.records.base import write_atomically

__all__ = ["save_artefact", "save_model"]

# Files that make a checkpoint folder whole besides the weights.
COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
)


def save_artefact(
    loaded: LoadedModel,
    run_dir: Path,
    *,
    method: str,
    base: str,
    labels: Sequence[str] = (),
    dtype: Literal["bf16", "fp32"] = "fp32",
) -> Path:
    """Write `run_dir/adapter` for lora, prompt and classify, `run_dir/model` for full and pretrain."""
    if method in ("full", "pretrain"):
        folder = run_dir / "model"
        save_model(loaded, folder, dtype=dtype)
    else:
        folder = run_dir / "adapter"
        save_adapter(loaded, folder, base=base)
    if labels:
        write_atomically(folder / "labels.json", json.dumps(list(labels), ensure_ascii=False) + "\n")
    return folder


def save_model(loaded: LoadedModel, folder: Path, *, dtype: Literal["bf16", "fp32"] = "fp32") -> None:
    """Write a transformers checkpoint: config, weights (tied tensors once) and the tokenizer's files unchanged."""
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    tensors: dict[str, Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, value in loaded.model.state_dict().items():
        if name.startswith("soft_prompt."):
            continue
        key = (value.data_ptr(), tuple(value.shape))
        if key in seen:
            continue
        seen.add(key)
        tensors[name] = value.detach().to("cpu", kind if value.is_floating_point() else value.dtype).contiguous()
    write_atomically(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    config = loaded.model.config.to_dict()
    config["dtype"] = "bfloat16" if dtype == "bf16" else "float32"
    write_atomically(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    for companion in COMPANIONS:
        if (loaded.folder / companion).is_file():
            shutil.copyfile(loaded.folder / companion, folder / companion)
