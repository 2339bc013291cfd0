"""Do tokenizer and model belong together, and is there room for what the method puts before every sample?"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

from foretune.config import JobConfig
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError
from foretune.models.load import LoadedModel

__all__ = ["check_room", "check_tokenizer"]

SPECIAL_IDS = ("bos_token_id", "eos_token_id")


def check_tokenizer(loaded: LoadedModel, tokenizer: Tokenizer) -> None:
    """Raise ConfigError where the tokenizer has tokens that the model has no embedding for, or other special tokens."""
    rows = loaded.model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    if tokenizer.vocab_size > rows:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's embedding only {rows} rows: "
            "they do not belong together",
            fix="use the tokenizer of the same checkpoint",
        )
    odd = list(_ordinary(loaded, tokenizer))
    if len(odd) == len(SPECIAL_IDS):
        raise ConfigError(
            f"the model's special tokens are ordinary ones to the tokenizer ({', '.join(odd)}): "
            "they do not belong together",
            fix="use the tokenizer of the same checkpoint",
        )


def _ordinary(loaded: LoadedModel, tokenizer: Tokenizer) -> Iterator[str]:
    """Special ids of the model's config that the tokenizer spells as ordinary text."""
    special = {index for index, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special}
    for name in SPECIAL_IDS:
        value = getattr(loaded.model.config, name, None)
        ids = value if isinstance(value, list) else [value]
        known = [index for index in ids if isinstance(index, int) and index >= 0]
        if known and special and not special & set(known):
            yield f"{name} {known[0]} is {tokenizer.backend.id_to_token(known[0])!r}"


def check_room(job: JobConfig, limit: int | None) -> None:
    """Raise ConfigError where virtual tokens leave no room among `limit` positions."""
    count = job.train.advanced.num_prompt_tokens
    if limit is not None and job.train.method in ("prompt", "prefix") and count >= limit - 1:
        raise ConfigError(
            f"train.advanced.num_prompt_tokens {count} leaves no room among the model's {limit} positions",
            fix=f"train.advanced.num_prompt_tokens = {min(16, max(1, limit // 4))}",
        )
