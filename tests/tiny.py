"""Tiny random models of each family in Hugging Face format, with pebble's tokenizer; made anew by each test."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

import foretune

PEBBLE = Path(foretune.__file__).parent / "models" / "pebble"
FAMILIES = ("llama", "mistral", "qwen2", "gpt2", "gpt_neo", "bloom", "t5")
VOCABULARY = 2048
# The block of the flat decoder, in a shape in which no two sizes are equal.
BLOCK = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_config(family: str) -> object:
    """A transformers config of two small layers."""
    import transformers as hf

    common = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    rope = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }
    if family == "llama":
        return hf.LlamaConfig(**common, **rope)
    if family == "mistral":
        return hf.MistralConfig(**common, **rope, sliding_window=None)
    if family == "qwen2":
        return hf.Qwen2Config(**common, **rope)
    if family == "gpt2":
        return hf.GPT2Config(**{**common, "pad_token_id": None}, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    if family == "gpt_neo":
        return hf.GPTNeoConfig(
            **common,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=64,
            max_position_embeddings=256,
        )
    if family == "bloom":
        return hf.BloomConfig(**common, hidden_size=32, n_layer=2, n_head=4)
    return hf.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )


def tiny_model(folder: Path, family: str = "llama", *, seed: int = 0) -> Path:
    """Write a tiny random model with tokenizer into `folder` and return it."""
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    auto = hf.AutoModelForSeq2SeqLM if family == "t5" else hf.AutoModelForCausalLM
    model = auto.from_config(tiny_config(family))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(PEBBLE / name, folder / name)
    return folder
