"""Adapters of every kind: attach, merge, save and load in PEFT's own file format."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from foretune.errors import ConfigError, NotFound
from foretune.models.linear import head_names, layer_sides, linear_layers
from foretune.models.load import LoadedModel
from foretune.models.lora import DoraLinear, LoraLinear, LowRank, Variant, low_rank_layer
from foretune.models.method_fit import needs_decoder, rank_too_large, too_many_top_layers
from foretune.models.quantise import QuantisedLinear
from foretune.models.shapes import block_of, default_targets
from foretune.models.virtual import KeyValuePrefix, SoftPrompt, attach_prefix, attach_soft_prompt
from foretune.records.base import write_atomically

__all__ = [
    "LoraLinear",
    "SoftPrompt",
    "adapter_base",
    "adapter_kind",
    "attach_lora",
    "attach_prefix",
    "attach_soft_prompt",
    "load_adapter",
    "merge_lora",
    "save_adapter",
]

PREFIX = "base_model.model."


def _chosen_layers(loaded: LoadedModel, target_modules: Sequence[str]) -> list[str]:
    heads = head_names(loaded.model)
    layers = [name for name, _ in linear_layers(loaded.model) if name not in heads]
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
                fix=f'train.advanced.target_modules = ["{close[0] if close else "all-linear"}"]',
            )
    return [name for name in layers if any(name == t or name.endswith(f".{t}") for t in wanted)]


def attach_lora(
    loaded: LoadedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Sequence[str] = (),
    seed: int = 0,
    variant: Variant = "lora",
    top_layers: int = 0,
    blocks: Sequence[int] = (),
) -> list[str]:
    """Freeze the model and put adapters on the chosen linear layers; returns their names.

    `target_modules`: last parts of names, `["all-linear"]`, or empty for the family's default. `top_layers`: in the
    last so many blocks alone (0: in all); `blocks`: in these alone (empty: in all). Raises ConfigError where a name
    matches nothing, the rank is larger than a layer, or there are fewer blocks.
    """
    names = _chosen_layers(loaded, target_modules)
    wanted = _top_blocks(loaded, names, top_layers) if top_layers else blocks
    names = [name for name in names if not wanted or block_of(name) in wanted]
    _check_rank(loaded.model, names, rank)
    torch.manual_seed(seed)
    loaded.model.requires_grad_(False)
    for name in names:
        layer = loaded.model.get_submodule(name)
        loaded.model.set_submodule(name, low_rank_layer(layer, rank, alpha, dropout, variant))
    head = _head(loaded)
    if head is not None:
        head.requires_grad_(True)
    return names


def _top_blocks(loaded: LoadedModel, names: Sequence[str], top_layers: int) -> Sequence[int]:
    """The numbers of the last blocks. Raises ConfigError where there are fewer, or blocks of two kinds."""
    count = 1 + max(block_of(name) for name in names)
    if loaded.kind == "seq2seq":
        what = f"train.advanced.top_layers {top_layers}"
        raise needs_decoder(what, loaded.family, fix="train.advanced.top_layers = 0")
    if top_layers > count:
        raise too_many_top_layers(top_layers, count, loaded.family)
    return range(count - top_layers, count)


def _check_rank(model: nn.Module, names: Sequence[str], rank: int) -> None:
    """Before anything is changed: the rank fits the smallest of the layers."""
    name = min(names, key=lambda one: min(layer_sides(model.get_submodule(one))))
    smallest = min(layer_sides(model.get_submodule(name)))
    if rank > smallest:
        raise rank_too_large(rank, name, smallest)


def _head(loaded: LoadedModel) -> nn.Module | None:
    """The head of classes or of a number, which is trained beside adapters."""
    return getattr(loaded.model, _head_name(loaded)) if loaded.kind in ("classify", "regress") else None


def _head_name(loaded: LoadedModel) -> str:
    return "score" if hasattr(loaded.model, "score") else "classifier"


def merge_lora(loaded: LoadedModel) -> None:
    """Fold every adapter into its base weight and take the adapters off.

    Raises ConfigError on a quantised base, whose weights cannot take the change.
    """
    layers = [(name, module) for name, module in loaded.model.named_modules() if isinstance(module, LowRank)]
    for name, layer in layers:
        if not layer.weight.is_floating_point():
            raise ConfigError(
                f"{name}: an adapter cannot be merged into a quantised weight", fix="load the base without quantising"
            )
    for name, layer in layers:
        loaded.model.set_submodule(name, layer.merge())


def save_adapter(loaded: LoadedModel, folder: Path, *, base: str, extra: dict[str, Any] | None = None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as PEFT does, so that peft and vLLM load them."""
    tensors: dict[str, Tensor] = {}
    prompt, prefix = getattr(loaded.model, "soft_prompt", None), getattr(loaded.model, "kv_prefix", None)
    if isinstance(prompt, SoftPrompt):
        tensors, config = {"prompt_embeddings": prompt.embedding}, _prompt_config(prompt, loaded, base)
    elif isinstance(prefix, KeyValuePrefix):
        tensors, config = {"prompt_embeddings": prefix.states}, _prefix_config(prefix, base)
    else:
        tensors, config = _adapter_places(loaded), _lora_config(loaded, base)
    write_atomically(folder / "adapter_config.json", json.dumps(config | (extra or {}), indent=2) + "\n")
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / "adapter_model.safetensors", save(whole, metadata={"format": "pt"}))


def _lora_config(loaded: LoadedModel, base: str) -> dict[str, Any]:
    lora = {name: module for name, module in loaded.model.named_modules() if isinstance(module, LowRank)}
    first = next(iter(lora.values()))
    task = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}.get(loaded.kind, "SEQ_CLS")
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": first.lora_a.shape[0],
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "use_rslora": first.variant == "rslora",
        "use_dora": first.variant == "dora",
        **_chosen_by(lora, loaded),
        "bias": "none",
        "fan_in_fan_out": first.conv1d or (isinstance(first.base, QuantisedLinear) and first.base.was_conv1d),
        "modules_to_save": [_head_name(loaded)] if _head(loaded) is not None else None,
        "inference_mode": True,
    }


def _chosen_by(lora: dict[str, LowRank], loaded: LoadedModel) -> dict[str, Any]:
    """Short names where they pick exactly the adapted layers, of all blocks or of some; else the full ones."""
    short = sorted({name.rpartition(".")[2] for name in lora})
    others = [name for name, _ in linear_layers(loaded.model) if not name.endswith(".base")]
    blocks = sorted({block_of(name) for name in lora})
    clashes = [name for name in others if name.rpartition(".")[2] in short]
    if not clashes:
        return {"target_modules": short}
    if blocks[0] >= 0 and not any(block_of(name) in blocks for name in clashes):
        return {"target_modules": short, "layers_to_transform": blocks}
    return {"target_modules": sorted(lora)}


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


def _prefix_config(prefix: KeyValuePrefix, base: str) -> dict[str, Any]:
    num_layers, num_heads, head_width = prefix.sizes
    return {
        "peft_type": "PREFIX_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "num_virtual_tokens": prefix.num_tokens,
        "token_dim": num_heads * head_width,
        "num_transformer_submodules": 1,
        "num_attention_heads": num_heads,
        "num_layers": num_layers,
        "prefix_projection": False,
        "inference_mode": True,
    }


def adapter_config(folder: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a folder. Raises NotFound, ConfigError."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise NotFound(f"{folder} has no adapter_config.json", fix="foretune runs list")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {"peft_type": "", "base_model_name_or_path": "", **config}
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a JSON object ({error})", fix="copy the adapter folder again") from error


def adapter_base(folder: Path) -> str:
    """The base model that an adapter folder was made for. Raises NotFound, ConfigError."""
    return str(adapter_config(folder)["base_model_name_or_path"])


def adapter_kind(folder: Path) -> str:
    """PEFT's name of the kind of adapter in a folder: LORA, PROMPT_TUNING ... Raises NotFound, ConfigError."""
    return str(adapter_config(folder)["peft_type"])


def load_adapter(loaded: LoadedModel, folder: Path) -> None:
    """Attach the adapter in `folder`, as PEFT saves it: LoRA and its variants, soft prompt, prefix.

    Raises ConfigError where it was made for another base or is of a kind that foretune does not know.
    """
    config = adapter_config(folder)
    tensors = _tensors(folder)
    places = _places(loaded, config, folder)
    if set(places) != set(tensors):
        strange, missing = sorted(set(tensors) - set(places)), sorted(set(places) - set(tensors))
        what = f"has {strange[0]}, which has no place in the base" if strange else f"lacks {missing[0]}"
        raise ConfigError(
            f"{folder}: the adapter {what}",
            fix=f"the base that it was made for ({adapter_base(folder)}), or copy the adapter folder again",
        )
    for name, parameter in places.items():
        _copy_into(parameter, tensors[name], name, folder)


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "adapter_model.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError:
        raise NotFound(f"{folder} has no adapter_model.safetensors", fix="copy the adapter folder again") from None
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: damaged ({error})", fix="copy the adapter folder again") from error


def _places(loaded: LoadedModel, config: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """Attach what a config describes; where each of its saved tensors belongs."""
    kind = config["peft_type"]
    if kind == "PROMPT_TUNING":
        return {"prompt_embeddings": attach_soft_prompt(loaded, num_tokens=int(config["num_virtual_tokens"])).embedding}
    if kind == "PREFIX_TUNING" and not config.get("prefix_projection"):
        return {"prompt_embeddings": attach_prefix(loaded, num_tokens=int(config["num_virtual_tokens"])).states}
    if kind != "LORA" or config.get("rank_pattern") or config.get("alpha_pattern"):
        odd = kind if kind != "LORA" else "LoRA with ranks or alphas by layer"
        raise ConfigError(
            f"{folder}: an adapter of kind {odd!r} is not known, expected LORA, PROMPT_TUNING or PREFIX_TUNING",
            fix="merge it into its base with peft, and use the merged model as base",
        )
    attach_lora(
        loaded,
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout", 0.0)),
        target_modules=_targets(config["target_modules"]),
        variant="dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora",
        blocks=_blocks(config.get("layers_to_transform")),
    )
    return _adapter_places(loaded)


def _blocks(value: int | Sequence[int] | None) -> Sequence[int]:
    return [value] if isinstance(value, int) else value or ()


def _targets(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _adapter_places(loaded: LoadedModel) -> dict[str, Tensor]:
    """The tensors of the attached low-rank layers and of a head, by the names that PEFT gives them."""
    places: dict[str, Tensor] = {}
    for name, module in loaded.model.named_modules():
        if isinstance(module, LowRank):
            places[f"{PREFIX}{name}.lora_A.weight"] = module.lora_a
            places[f"{PREFIX}{name}.lora_B.weight"] = module.lora_b
        if isinstance(module, DoraLinear):
            places[f"{PREFIX}{name}.lora_magnitude_vector"] = module.magnitude
    head = _head(loaded)
    if head is not None:
        places |= {f"{PREFIX}{_head_name(loaded)}.{key}": value for key, value in head.named_parameters()}
    return places


def _copy_into(parameter: Tensor, value: Tensor, name: str, folder: Path) -> None:
    if parameter.shape != value.shape:
        raise ConfigError(
            f"{folder}: {name} has shape {list(value.shape)}, this base model needs {list(parameter.shape)}",
            fix=f"use the adapter's own base: {adapter_base(folder)}",
        )
    with torch.no_grad():
        parameter.copy_(value)
