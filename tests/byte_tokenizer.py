"""A byte-level tokenizer in a folder, for tests: every byte a token, a few merges, and the special tokens asked for."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>", "<|pad|>")


def write_tokenizer(
    folder: Path,
    *,
    template: str | None = CHATML,
    specials: Sequence[str] = CHATML_TOKENS,
    merges: Sequence[tuple[str, str]] = (),
    **config: Any,
) -> Path:
    """`tokenizer.json` and `tokenizer_config.json`; `merges` are in the byte-level alphabet (`Ċ` is a newline)."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {char: number for number, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in specials])
    backend.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"} if "<|im_end|>" in specials else {}
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **config}), encoding="utf-8")
    return folder
