"""LoRA adapters and soft prompts: attach, merge, save and load in PEFT's own file format.

LoRA: Hu et al. 2021, arXiv 2106.09685: y = W x + (alpha / r) B A x, A random, B zero. Prompt tuning: Lester et al.
2021, arXiv 2104.08691.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B batch, L tokens, I inputs, O outputs, R rank, D width, P soft-prompt tokens.
from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from foretune.errors import ConfigError, NotFound
from foretune.models.load import LoadedModel
from foretune.models.shapes import default_targets
from foretune.records.base import write_atomically

__all__ = [
    "LoraLinear",
    "SoftPrompt",
    "adapter_base",
    "attach_lora",
    "attach_soft_prompt",
    "load_adapter",
    "merge_lora",
    "save_adapter",
]

PREFIX = "base_model.model."


class LoraLinear(nn.Module):
    """A frozen linear layer plus a low-rank change; the rank path is computed in fp32.

    `conv1d` is transformers' Conv1D (GPT-2), whose weight is [I, O] instead of [O, I].
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        weight = base.weight
        assert isinstance(weight, Tensor)
        self.conv1d = type(base).__name__ == "Conv1D"
        num_in, num_out = (weight.shape[0], weight.shape[1]) if self.conv1d else (weight.shape[1], weight.shape[0])
        self.base = base
        self.scale = alpha / rank
        self.dropout = dropout
        self.lora_a = nn.Parameter(torch.empty(rank, num_in, device=weight.device))
        self.lora_b = nn.Parameter(torch.zeros(num_out, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The frozen weight, for models that look at its dtype (T5)."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x_BLI: Tensor) -> Tensor:
        """[B, L, I] -> [B, L, O]."""
        y_BLO: Tensor = self.base(x_BLI)
        x_BLI = functional.dropout(x_BLI, self.dropout, self.training)
        change_BLO = functional.linear(functional.linear(x_BLI.to(self.lora_a.dtype), self.lora_a), self.lora_b)
        return y_BLO + (change_BLO * self.scale).to(y_BLO.dtype)

    def delta(self) -> Tensor:
        """The change of the base weight, in the base weight's own layout."""
        change_OI = (self.lora_b @ self.lora_a) * self.scale
        return change_OI.T if self.conv1d else change_OI


class SoftPrompt(nn.Module):
    """P learned embeddings put before every input: [P, D]."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_tokens, width))


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            yield name, module


def _head_names(model: nn.Module) -> set[str]:
    heads = {"lm_head", "score", "classifier", "classification_head", "embed_out", "out_proj"}
    return {name for name, _ in _linear_layers(model) if name.split(".")[0] in heads}


def _chosen_layers(loaded: LoadedModel, target_modules: Sequence[str]) -> list[str]:
    layers = [name for name, _ in _linear_layers(loaded.model) if name not in _head_names(loaded.model)]
    if list(target_modules) == ["all-linear"]:
        return layers
    wanted = tuple(target_modules) or default_targets(loaded.family)
    known = sorted({name.rpartition(".")[2] for name in layers})
    for target in wanted:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            close = difflib.get_close_matches(target, known, n=1)
            raise ConfigError(
                f"target module `{target}` matches no linear layer of this {loaded.family} model; "
                f"expected one of: {', '.join(known)}",
                fix=f'target_modules = ["{close[0] if close else "all-linear"}"]',
            )
    return [name for name in layers if any(name == t or name.endswith(f".{t}") for t in wanted)]


def attach_lora(
    loaded: LoadedModel, *, rank: int, alpha: float, dropout: float, target_modules: Sequence[str] = (), seed: int = 0
) -> list[str]:
    """Freeze the model and put adapters on the chosen linear layers; returns their names.

    `target_modules`: last parts of names, `["all-linear"]`, or empty for the family's default. Raises ConfigError where
    a name matches nothing or the rank is larger than a layer.
    """
    names = _chosen_layers(loaded, target_modules)
    torch.manual_seed(seed)
    loaded.model.requires_grad_(False)
    for name in names:
        layer = loaded.model.get_submodule(name)
        smallest = min(layer.weight.shape)  # type: ignore[arg-type]
        if rank > smallest:
            raise ConfigError(
                f"rank {rank} is larger than the smaller side of layer {name} ({smallest})",
                fix=f"train.rank = {min(16, smallest)}",
            )
        loaded.model.set_submodule(name, LoraLinear(layer, rank, alpha, dropout))
    head = _classification_head(loaded)
    if head is not None:
        head.requires_grad_(True)
    return names


def _classification_head(loaded: LoadedModel) -> nn.Module | None:
    if loaded.kind != "classify":
        return None
    return next((getattr(loaded.model, n) for n in ("score", "classifier") if hasattr(loaded.model, n)), None)


def attach_soft_prompt(loaded: LoadedModel, *, num_tokens: int, seed: int = 0) -> SoftPrompt:
    """Freeze the model and give it `num_tokens` trainable embeddings, started from embeddings of random tokens."""
    if loaded.kind != "causal":
        raise ConfigError(f"method prompt needs a decoder-only model, got a {loaded.kind} model", fix='method = "lora"')
    loaded.model.requires_grad_(False)
    table = loaded.model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, table.shape[0], (num_tokens,), generator=generator)
    prompt = SoftPrompt(num_tokens, table.shape[1])
    prompt.embedding.data.copy_(table.detach()[rows.to(table.device)])
    prompt.to(loaded.device)
    loaded.model.soft_prompt = prompt
    return prompt


def merge_lora(loaded: LoadedModel) -> None:
    """Fold every adapter into its base weight and take the adapters off."""
    for name, module in list(loaded.model.named_modules()):
        if isinstance(module, LoraLinear):
            with torch.no_grad():
                module.weight.add_(module.delta().to(module.weight.dtype))
            loaded.model.set_submodule(name, module.base)


def save_adapter(loaded: LoadedModel, folder: Path, *, base: str, extra: dict[str, Any] | None = None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as PEFT does, so that peft and vLLM load them."""
    lora = {name: module for name, module in loaded.model.named_modules() if isinstance(module, LoraLinear)}
    prompt = getattr(loaded.model, "soft_prompt", None)
    tensors: dict[str, Tensor] = {}
    for name, module in lora.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = module.lora_a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = module.lora_b
    head = _classification_head(loaded)
    if head is not None:
        head_name = "score" if hasattr(loaded.model, "score") else "classifier"
        tensors |= {f"{PREFIX}{head_name}.{key}": value for key, value in head.state_dict().items()}
    if isinstance(prompt, SoftPrompt):
        tensors["prompt_embeddings"] = prompt.embedding
        config = _prompt_config(prompt, loaded, base)
    else:
        config = _lora_config(lora, loaded, base)
    write_atomically(folder / "adapter_config.json", json.dumps(config | (extra or {}), indent=2) + "\n")
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / "adapter_model.safetensors", save(whole, metadata={"format": "pt"}))


def _lora_config(lora: dict[str, LoraLinear], loaded: LoadedModel, base: str) -> dict[str, Any]:
    first = next(iter(lora.values()))
    rank = first.lora_a.shape[0]
    task = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM", "classify": "SEQ_CLS"}[loaded.kind]
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": first.dropout,
        "target_modules": _target_names(lora, loaded),
        "bias": "none",
        "fan_in_fan_out": first.conv1d,
        "modules_to_save": ["score"] if loaded.kind == "classify" else None,
        "inference_mode": True,
    }


def _target_names(lora: dict[str, LoraLinear], loaded: LoadedModel) -> list[str]:
    """Short names where they pick exactly the adapted layers, else the full ones."""
    short = sorted({name.rpartition(".")[2] for name in lora})
    others = [name for name, _ in _linear_layers(loaded.model) if not name.endswith(".base")]
    clash = any(name.rpartition(".")[2] in short for name in others)
    return sorted(lora) if clash else short


def _prompt_config(prompt: SoftPrompt, loaded: LoadedModel, base: str) -> dict[str, Any]:
    num_tokens, width = prompt.embedding.shape
    config = loaded.model.config
    return {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "num_virtual_tokens": num_tokens,
        "token_dim": width,
        "num_transformer_submodules": 1,
        "num_attention_heads": getattr(config, "num_attention_heads", None),
        "num_layers": getattr(config, "num_hidden_layers", None),
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }


def adapter_base(folder: Path) -> str:
    """The base model that an adapter folder was made for. Raises NotFound."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise NotFound(f"{folder} has no adapter_config.json", fix="foretune runs list")
    return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])


def load_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Attach the adapter in `folder` (LoRA or soft prompt, as PEFT saves them). Raises ConfigError on another base."""
    adapter_base(folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    if config["peft_type"] == "PROMPT_TUNING":
        prompt = attach_soft_prompt(loaded, num_tokens=int(config["num_virtual_tokens"]))
        _copy_into(prompt.embedding, tensors.pop("prompt_embeddings"), "prompt_embeddings", folder)
    else:
        attach_lora(
            loaded,
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            dropout=float(config.get("lora_dropout", 0.0)),
            target_modules=config["target_modules"],
        )
        places = _adapter_places(loaded)
        if set(places) != set(tensors):
            odd = sorted(set(places) ^ set(tensors))[0]
            raise ConfigError(
                f"{folder}: adapter and base model differ at {odd}", fix=f"it was made for {adapter_base(folder)}"
            )
        for name, parameter in places.items():
            _copy_into(parameter, tensors[name], name, folder)


def _adapter_places(loaded: LoadedModel) -> dict[str, Tensor]:
    places: dict[str, Tensor] = {}
    for name, module in loaded.model.named_modules():
        if isinstance(module, LoraLinear):
            places[f"{PREFIX}{name}.lora_A.weight"] = module.lora_a
            places[f"{PREFIX}{name}.lora_B.weight"] = module.lora_b
    head = _classification_head(loaded)
    if head is not None:
        head_name = "score" if hasattr(loaded.model, "score") else "classifier"
        places |= {f"{PREFIX}{head_name}.{key}": value for key, value in head.named_parameters()}
    return places


def _copy_into(parameter: Tensor, value: Tensor, name: str, folder: Path) -> None:
    if parameter.shape != value.shape:
        raise ConfigError(
            f"{folder}: {name} has shape {list(value.shape)}, this base model needs {list(parameter.shape)}",
            fix=f"use the adapter's own base: {adapter_base(folder)}",
        )
    with torch.no_grad():
        parameter.copy_(value)
