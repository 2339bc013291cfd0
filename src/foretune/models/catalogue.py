"""The models people fine-tune: sizes, licence, context and languages, found by any of their usual names; no torch."""

# SPDX-License-Identifier: Apache-2.0
#
# The data are in catalogue.json beside this file, one model a line, each with its source and date.
from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.errors import ConfigError, NotFound
from foretune.models.base import EMBEDDED, base_config, resolve_base
from foretune.models.shapes import Shape, model_shape, typical_shape

__all__ = ["CatalogueModel", "closest_models", "find_model", "models", "select_models", "shape_for"]

CATALOGUE = Path(__file__).parent / "catalogue.json"
# What a name may carry behind the model's own: how it is stored or how many machines it ran on, then how it was tuned.
STORED = re.compile(r"(hf|bf16|fp16|fp8|nvfp4|mxfp4|4bit|8bit|bnb4bit|bnb8bit|int4|int8|gptq|awq|gguf|\d+node|class)$")
TUNED = re.compile(r"(instruct|chat|it|base|pt|sft|dpo)$")
NOT_A_NAME = re.compile(r"[^a-z0-9.+]")
IN_BRACKETS = re.compile(r"\(.*?\)|\[.*?\]")
PART = "the language model alone is counted, not the parts that see or hear"
A_SIZE = re.compile(r"\d+(\.\d+)?[bm]?")


@dataclass(frozen=True)
class CatalogueModel:
    """A published model, or for models that also see or hear its language model (`is_part`).

    `config` are the sizes of its config.json, `family` their model_type, `context_tokens` what it was trained for,
    `languages` two-letter codes or `multilingual` or `code`, `released` year and month, `chat` whether it was tuned to
    follow instructions. `source` says where the sizes are from, `date` when they were written down.
    """

    id: str
    aliases: tuple[str, ...]
    family: str
    chat: bool
    licence: str
    context_tokens: int
    languages: tuple[str, ...]
    released: str
    config: dict[str, Any]
    source: str
    date: str

    @property
    def is_part(self) -> bool:
        """Whether the published weights also hold parts that see or hear, which are not counted."""
        return bool(self.config.get("language_model_only"))

    @property
    def shape(self) -> Shape:
        """Its sizes, layer by layer."""
        return _shape_of(self.id)


@functools.cache
def models() -> tuple[CatalogueModel, ...]:
    """Every model of the catalogue, by id."""
    rows: list[dict[str, Any]] = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    return tuple(
        CatalogueModel(**row | {"aliases": tuple(row["aliases"]), "languages": tuple(row["languages"])}) for row in rows
    )


@functools.cache
def _by_id() -> dict[str, CatalogueModel]:
    return {model.id: model for model in models()}


@functools.cache
def _shape_of(model_id: str) -> Shape:
    return model_shape(_by_id()[model_id].config)


@functools.cache
def _by_name() -> dict[str, CatalogueModel]:
    """Models by every plain name: aliases and ids first, then ids without what they carry behind the model's name."""
    names: dict[str, CatalogueModel] = {}
    for model in models():
        for name in (model.id, *model.aliases):
            names.setdefault(_plain(name), model)
    for model in models():
        names.setdefault(_without(STORED, _plain(model.id)), model)
    for model in models():
        if not model.chat:
            names.setdefault(_without(TUNED, _plain(model.id)), model)
    return names


def _plain(name: str) -> str:
    """Small letters and digits of a name's last part: `meta-llama/Llama-2-7b-hf` is `llama27bhf`."""
    inner = IN_BRACKETS.sub("", name.strip().lower().rstrip("/")).rpartition("/")[2]
    return NOT_A_NAME.sub("", inner)


def _without(pattern: re.Pattern[str], name: str) -> str:
    shorter = pattern.sub("", name)
    while shorter != name:
        name, shorter = shorter, pattern.sub("", shorter)
    return name


@functools.lru_cache(maxsize=4096)
def find_model(name: str) -> CatalogueModel | None:
    """The model of a name as people write it: any case, spaces or dashes, with or without its organisation; else None.

    What is not in the name's own tuning (`-chat`, `-instruct`) is taken from the base model of the same sizes.
    """
    names, plain = _by_name(), _plain(name)
    if not plain or A_SIZE.fullmatch(plain):
        return None
    stored = _without(STORED, plain)
    for candidate in (plain, stored, _without(TUNED, stored), _without(STORED, _without(TUNED, stored))):
        if candidate in names:
            return names[candidate]
    return names.get(_plain(name.partition("/")[0])) if name.count("/") == 1 and " " in name else None


def select_models(
    *,
    family: str | None = None,
    max_parameters: float = math.inf,
    licences: Collection[str] = (),
    language: str | None = None,
    chat: bool | None = None,
    min_context_tokens: int = 0,
) -> tuple[CatalogueModel, ...]:
    """The models that pass every filter, newest first, then largest; the order is always the same.

    A model that speaks many languages passes any `language`; `code` is one.
    """
    chosen = [
        model
        for model in models()
        if (family is None or model.family == family)
        and (not licences or model.licence in licences)
        and (
            language is None
            or language in model.languages
            or (language != "code" and "multilingual" in model.languages)
        )
        and (chat is None or model.chat == chat)
        and model.context_tokens >= min_context_tokens
        and model.shape.parameters <= max_parameters
    ]
    return tuple(sorted(chosen, key=lambda model: (model.released, model.shape.parameters, model.id), reverse=True))


def closest_models(name: str, limit: int = 3) -> tuple[str, ...]:
    """Ids whose names are closest to `name`, closest first: what a typo may have meant."""
    names = _by_name()
    close = difflib.get_close_matches(_plain(name), names, n=4 * limit, cutoff=0.6)
    ids = dict.fromkeys(names[match].id for match in close)
    return tuple(ids)[:limit]


def shape_for(
    base: str | None, params: float | None = None, config: dict[str, Any] | None = None
) -> tuple[Shape, tuple[str, ...]]:
    """The shape of a model and what was assumed to get it.

    First of: the config, the catalogue's model of that name, a local folder or cached id, a Llama of `params`
    parameters. Raises ConfigError with the closest names where nothing of it is known.
    """
    if config is not None:
        return _with_guesses(config)
    model = find_model(base) if base else None
    if model is not None and base is not None:
        return model.shape, _said(base, model, params)
    if base:
        local = _local_config(base)
        if local is not None:
            return _with_guesses(local)
    if params:
        kind = f"{base}: not in the catalogue, " if base else ""
        return typical_shape(params), (f"{kind}counted as a Llama of {params / 1e9:.3g} billion parameters",)
    raise _unknown(base)


def _with_guesses(config: dict[str, Any]) -> tuple[Shape, tuple[str, ...]]:
    shape = model_shape(config)
    said = [] if shape.is_exact else [f"family {shape.family} is counted as if it were a Llama"]
    if isinstance(config.get("text_config"), dict):
        said.append(PART)
    return shape, tuple(said)


def _said(base: str, model: CatalogueModel, params: float | None) -> tuple[str, ...]:
    said = [] if _plain(base) in _by_name() else [f"{base}: sizes of {model.id}"]
    said += [PART] if model.is_part else []
    counted = model.shape.parameters
    if params and not 0.97 <= params / counted <= 1.03:
        said.append(f"{base}: {counted / 1e9:.3g} billion parameters by its config, {params / 1e9:.3g} as given")
    return tuple(said)


def _local_config(base: str) -> dict[str, Any] | None:
    """The config of a folder (a tokenizer is not needed) or of an id in the local cache, None where it is neither."""
    path = Path(base).expanduser()
    if path.is_dir() or path.name == "config.json":
        return base_config(path if path.is_dir() else path.parent)
    if base != EMBEDDED and "/" not in base:
        return None
    try:
        return base_config(resolve_base(base, download=False))
    except NotFound:
        return None


def _unknown(base: str | None) -> ConfigError:
    if not base:
        return ConfigError("no model was given, expected a model or a number of parameters", fix="--params 7B")
    close = closest_models(base)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return ConfigError(
        f"model {base!r} is neither in the catalogue nor a folder nor in the local cache{hint}",
        fix=f"--base {close[0]}" if close else "--params 7B   # a typical model of that size",
    )
