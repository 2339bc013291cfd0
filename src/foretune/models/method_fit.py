"""Can a method train this model at all: judged by the model's sizes, so that the plan knows it before torch does."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.config.job import LORA_METHODS, PREFERENCE_METHODS, TrainConfig
from foretune.errors import ConfigError
from foretune.models.shapes import block_of, targeted_layers
from foretune.models.sizes import Shape

__all__ = ["check_method", "needs_decoder", "no_target", "rank_too_large", "too_many_top_layers"]

DECODER_METHODS = ("prompt", "prefix", "classify", "regress", *PREFERENCE_METHODS)


def check_method(train: TrainConfig, shape: Shape) -> None:
    """Raise ConfigError where the method needs another kind of model, or its adapters fit no layer of this one."""
    if shape.is_encoder_decoder and train.method == "pretrain":
        raise no_target(shape.family)
    if shape.is_encoder_decoder and train.method in DECODER_METHODS:
        raise needs_decoder(f"method {train.method}", shape.family)
    if train.method not in LORA_METHODS or train.advanced.base_adapter:
        return  # an earlier adapter has a rank and targets of its own
    targets, top = train.advanced.target_modules, train.advanced.top_layers
    chosen = targeted_layers(shape, targets)
    if top:
        _check_top_layers(top, 1 + max(block_of(layer.name) for layer in chosen), shape)
    smallest = min(targeted_layers(shape, targets, top), key=lambda layer: min(layer.num_inputs, layer.num_outputs))
    side = min(smallest.num_inputs, smallest.num_outputs)
    if shape.is_exact and train.rank > side:
        raise rank_too_large(train.rank, smallest.name, side)


def _check_top_layers(top: int, count: int, shape: Shape) -> None:
    if shape.is_encoder_decoder:
        raise needs_decoder(f"train.advanced.top_layers {top}", shape.family, fix="train.advanced.top_layers = 0")
    if top > count:
        raise too_many_top_layers(top, count, shape.family)


def needs_decoder(what: str, family: str, *, fix: str = 'train.method = "lora"') -> ConfigError:
    """The error of something that only a decoder can do, asked of an encoder-decoder."""
    return ConfigError(f"{what} needs a decoder-only base, got the encoder-decoder {family}", fix=fix)


def no_target(family: str) -> ConfigError:
    """The error of raw text for an encoder-decoder, which learns a target."""
    return needs_decoder("raw text, which has no target,", family, fix="base: a decoder-only model")


def too_many_top_layers(top_layers: int, count: int, family: str) -> ConfigError:
    """The error of adapters in more blocks than there are."""
    return ConfigError(
        f"top_layers {top_layers} is more than the {count} blocks of this {family} model",
        fix=f"train.advanced.top_layers = {max(1, count // 4)}",
    )


def rank_too_large(rank: int, layer: str, side: int) -> ConfigError:
    """The error of an adapter that is wider than its layer."""
    return ConfigError(
        f"rank {rank} is larger than the smaller side of layer {layer} ({side})", fix=f"train.rank = {min(16, side)}"
    )
