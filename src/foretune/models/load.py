"""The one door to transformers: load a causal, encoder-decoder or classification model from a local folder."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from foretune.errors import ConfigError, MissingDependency, NotFound
from foretune.hardware import detect_machine
from foretune.models.linear import is_packed, layer_sides, linear_layers
from foretune.models.method_fit import needs_decoder
from foretune.models.quantise import bitsandbytes_is_usable, prepare_for_training, quantise_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "LoadedModel",
    "best_device",
    "has_bf16",
    "has_fp16",
    "is_encoder_decoder",
    "key_value_cache",
    "load_model",
    "num_parameters",
]

Kind = Literal["causal", "seq2seq", "classify", "regress"]
MINIMUM = (5, 0)


@dataclass
class LoadedModel:
    """A model in fp32 on the CPU or on `device`, and what the rest needs to know of it."""

    model: PreTrainedModel
    kind: Kind
    family: str  # model_type of config.json: llama, gpt2, t5 ...
    folder: Path
    device: torch.device

    @property
    def max_len(self) -> int | None:
        """Longest sequence that the position table allows; None where there is no table (T5, ALiBi)."""
        config = self.model.config
        if self.family == "bloom" or self.kind == "seq2seq":
            return None
        for name in ("max_position_embeddings", "n_positions", "seq_length"):
            value = getattr(config, name, None)
            if isinstance(value, int):
                return value
        return None


def num_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Parameters of a model, tied ones once, packed ones as before; `trainable` counts those with gradients alone."""
    if trainable:
        return sum(p.numel() for p in model.parameters() if p.requires_grad)
    packed = [layer for _, layer in linear_layers(model) if is_packed(layer)]
    inside = {id(layer.weight) for layer in packed}
    plain = sum(p.numel() for p in model.parameters() if id(p) not in inside)
    return plain + sum(math.prod(layer_sides(layer)) for layer in packed)


def is_encoder_decoder(folder: Path) -> bool:
    """Whether the model in `folder` is an encoder-decoder such as T5."""
    return bool(_config(folder).is_encoder_decoder)


def load_model(
    folder: Path,
    *,
    num_labels: int = 0,
    random_init: bool = False,
    seed: int = 0,
    pad_id: int | None = None,
    device: torch.device | None = None,
    quantise: Literal["none", "8bit", "4bit"] = "none",
) -> LoadedModel:
    """The model of a local Hugging Face folder, in fp32, in eval mode.

    `num_labels` > 1 puts a fresh classification head on it, 1 a head for one number; `random_init` takes the
    architecture alone (seeded); `quantise` packs the linear layers of a base that stays frozen.
    Only safetensors are read, no remote code runs. Raises NotFound, ConfigError, MissingDependency.
    """
    transformers = _transformers()
    config = _config(folder)
    if num_labels and config.is_encoder_decoder:
        raise needs_decoder("a class or number head", config.model_type)
    headed: Kind = "regress" if num_labels == 1 else "classify"
    kind: Kind = headed if num_labels else "seq2seq" if config.is_encoder_decoder else "causal"
    auto = {
        "classify": transformers.AutoModelForSequenceClassification,
        "regress": transformers.AutoModelForSequenceClassification,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "causal": transformers.AutoModelForCausalLM,
    }[kind]
    if num_labels:
        config.num_labels = num_labels
    if pad_id is not None and config.pad_token_id is None:
        config.pad_token_id = pad_id
    torch.manual_seed(seed)
    where = device or best_device()
    packed = quantise != "none" and bitsandbytes_is_usable(where)
    if random_init:
        config.dtype = torch.float32
        model = auto.from_config(config)
    else:
        _check_weights(folder)
        try:
            model = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                **(_bitsandbytes(quantise, where) if packed else {}),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{folder}: cannot be loaded as a {kind} model: {str(error).splitlines()[0]}",
                fix="check config.json and model.safetensors; the folder must be a Hugging Face checkpoint",
            ) from error
    if quantise != "none" and not packed:
        quantise_layers(model, quantise)
    if quantise != "none":
        prepare_for_training(model)
    if not packed:
        model = model.to(where)
    return LoadedModel(model.eval(), kind, str(config.model_type), folder, where)


def _bitsandbytes(bits: str, device: torch.device) -> dict[str, Any]:
    """What makes transformers load a base packed by bitsandbytes: NF4 with double quantisation, or LLM.int8."""
    config = _transformers().BitsAndBytesConfig(
        load_in_8bit=bits == "8bit",
        load_in_4bit=bits == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if has_bf16(device) else torch.float16,
    )
    return {"quantization_config": config, "device_map": {"": device.index or 0}}


def key_value_cache(layers: Sequence[tuple[Tensor, Tensor]]) -> Any:
    """A cache that begins with the keys and values [B, H, P, E] of each layer."""
    return _transformers().DynamicCache(layers)


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes bf16 natively (NVIDIA: compute capability 8.0 and later; processors say so)."""
    if device.type == "cpu":
        return detect_machine().cpu_has_bf16
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def has_fp16(device: torch.device) -> bool:
    """Whether `device` computes fp16 fast: NVIDIA GPUs with tensor cores, compute capability 7.0 and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def best_device() -> torch.device:
    """The CUDA device of this process (the first, unless it chose another), else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency("transformers is not installed", fix="pip install 'transformers>=5'") from error
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if version < MINIMUM:
        raise MissingDependency(
            f"transformers {transformers.__version__} is too old, expected >= 5.0", fix="pip install 'transformers>=5'"
        )
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _config(folder: Path) -> Any:
    transformers = _transformers()
    if not (folder / "config.json").is_file():
        raise NotFound(f"{folder} has no config.json", fix="give a Hugging Face model folder or `pebble` as base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        except (ValueError, OSError, KeyError) as error:
            raise ConfigError(f"{folder}/config.json: {str(error).splitlines()[0]}", fix="check model_type") from error


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise NotFound(
            f"{folder} has only pickled weights ({pickles[0]}); foretune reads safetensors alone",
            fix="convert them: model.save_pretrained(folder) writes safetensors",
        )
    raise NotFound(f"{folder} has no *.safetensors weights", fix="give a complete model folder as base")
