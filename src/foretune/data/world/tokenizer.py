"""The embedded model's tokenizer: byte-level BPE trained on the world, with its chat template."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from foretune.data.world.corpus import documents
from foretune.data.world.shards import BOS, END, PAD

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 2048
MAX_SEQ_LEN = 512
TRAINING_DOCUMENTS = 20_000
SPECIAL_TOKENS = (PAD, BOS, END, "<|system|>", "<|user|>", "<|assistant|>")
WORD_PATTERN = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>' }}{% generation %}{{- message['content'] + '<|end|>' }}{% endgeneration %}"
    "{%- else %}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def train_tokenizer(seed: int = 0, vocab_size: int = VOCAB_SIZE, num_documents: int = TRAINING_DOCUMENTS) -> Tokenizer:
    """Return the tokenizer trained on the corpus of `seed`: digits stand alone, a word takes its leading space."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_texts(seed, num_documents), trainer)
    return tokenizer


def _training_texts(seed: int, num_documents: int) -> list[str]:
    texts: list[str] = []
    for document in documents(seed, num_documents):
        texts.extend([document.text] if document.text is not None else [m["content"] for m in document.messages])
    return texts


def save_tokenizer(folder: Path, tokenizer: Tokenizer | None = None, seed: int = 0) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` so that any Hugging Face loader finds tokens and template."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = tokenizer if tokenizer is not None else train_tokenizer(seed)
    trained.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_SEQ_LEN,
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [t for t in SPECIAL_TOKENS if t not in (PAD, BOS, END)],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
