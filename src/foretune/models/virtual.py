"""Virtual tokens before every input: a soft prompt (learned embeddings) or a prefix (learned keys and values).

Prompt tuning: Lester et al. 2021, arXiv 2104.08691. Prefix tuning: Li & Liang 2021, arXiv 2101.00190, without the
reparametrisation by a network; it begins with the keys and values of real tokens, as their section 7.4 finds best.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: B rows, L tokens, D width, P virtual tokens, N layers, H heads of keys, E their width.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foretune.errors import ConfigError
from foretune.models.load import LoadedModel, key_value_cache
from foretune.models.method_fit import needs_decoder

__all__ = [
    "KeyValuePrefix",
    "SoftPrompt",
    "attach_prefix",
    "attach_soft_prompt",
    "num_virtual_tokens",
    "prompted_inputs",
]


class SoftPrompt(nn.Module):
    """P learned embeddings put before every input: [P, D]."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_tokens, width))


class KeyValuePrefix(nn.Module):
    """P learned keys and values of every layer, before those of the input: [P, N x 2 x H x E], as PEFT saves them."""

    def __init__(self, num_tokens: int, num_layers: int, num_heads: int, head_width: int) -> None:
        super().__init__()
        self.sizes = (num_layers, num_heads, head_width)
        self.states = nn.Parameter(torch.empty(num_tokens, num_layers * 2 * num_heads * head_width))

    @property
    def num_tokens(self) -> int:
        """P."""
        return self.states.shape[0]

    def cache(self, num_rows: int) -> Any:
        """A fresh cache with the prefix in every row, for one pass; gradients flow through it."""
        num_layers, num_heads, head_width = self.sizes
        states = self.states.view(self.num_tokens, num_layers * 2, num_heads, head_width).permute(1, 2, 0, 3)
        whole = states[:, None].expand(-1, num_rows, -1, -1, -1)
        return key_value_cache([(whole[2 * layer], whole[2 * layer + 1]) for layer in range(num_layers)])


def _needs_decoder(loaded: LoadedModel, method: str) -> None:
    if loaded.kind != "causal":
        raise needs_decoder(f"method {method}", loaded.family)


def attach_soft_prompt(loaded: LoadedModel, *, num_tokens: int, seed: int = 0) -> SoftPrompt:
    """Freeze the model and give it `num_tokens` trainable embeddings, started from embeddings of random tokens."""
    _needs_decoder(loaded, "prompt")
    loaded.model.requires_grad_(False)
    table = loaded.model.get_input_embeddings().weight
    assert isinstance(table, Tensor)
    rows = _random_ids(num_tokens, table.shape[0], seed)
    prompt = SoftPrompt(num_tokens, table.shape[1])
    prompt.embedding.data.copy_(table.detach()[rows.to(table.device)])
    prompt.to(loaded.device)
    loaded.model.soft_prompt = prompt
    return prompt


def _random_ids(num_tokens: int, vocabulary: int, seed: int) -> Tensor:
    return torch.randint(0, vocabulary, (num_tokens,), generator=torch.Generator().manual_seed(seed))


def attach_prefix(loaded: LoadedModel, *, num_tokens: int, seed: int = 0) -> KeyValuePrefix:
    """Freeze the model and give it `num_tokens` trainable keys and values a layer, started from those of random tokens.

    Raises ConfigError where the layers have keys of unlike sizes, or none.
    """
    _needs_decoder(loaded, "prefix")
    loaded.model.requires_grad_(False)
    model: Any = loaded.model
    ids = _random_ids(num_tokens, model.get_input_embeddings().weight.shape[0], seed).to(loaded.device)
    with torch.no_grad():
        cache = model(input_ids=ids[None], use_cache=True).past_key_values
    layers = [(layer.keys, layer.values) for layer in getattr(cache, "layers", ()) if hasattr(layer, "keys")]
    sizes = {tuple(states.shape) for pair in layers for states in pair}
    if len(sizes) != 1 or len(layers) != len(cache.layers):
        raise ConfigError(
            f"method prefix needs layers with keys and values of one size, got {len(sizes)} sizes in {loaded.family}",
            fix='train.method = "lora"',
        )
    ((_, num_heads, _, head_width),) = sizes
    prefix = KeyValuePrefix(num_tokens, len(layers), num_heads, head_width)
    states = torch.cat([states for pair in layers for states in pair]).permute(2, 0, 1, 3)
    prefix.states.data.copy_(states.reshape(num_tokens, -1))
    prefix.to(loaded.device)
    loaded.model.kv_prefix = prefix
    return prefix


def num_virtual_tokens(model: nn.Module) -> int:
    """Positions that virtual tokens take before every input."""
    prompt, prefix = getattr(model, "soft_prompt", None), getattr(model, "kv_prefix", None)
    if isinstance(prefix, KeyValuePrefix):
        return prefix.num_tokens
    return len(prompt.embedding) if isinstance(prompt, SoftPrompt) else 0


def prompted_inputs(model: Any, ids_BL: Tensor) -> dict[str, Any]:
    """What to call a decoder with for ids padded on the right: virtual tokens before them, where it has some."""
    prefix, prompt = getattr(model, "kv_prefix", None), getattr(model, "soft_prompt", None)
    if isinstance(prefix, KeyValuePrefix):
        mask_BL = torch.ones(len(ids_BL), prefix.num_tokens + ids_BL.shape[1], dtype=torch.long, device=ids_BL.device)
        return {"input_ids": ids_BL, "attention_mask": mask_BL, "past_key_values": prefix.cache(len(ids_BL))}
    if not isinstance(prompt, SoftPrompt):
        return {"input_ids": ids_BL}
    tokens_BLD = model.get_input_embeddings()(ids_BL)
    prompt_BPD = prompt.embedding.to(tokens_BLD.dtype).expand(len(ids_BL), -1, -1)
    return {"inputs_embeds": torch.cat([prompt_BPD, tokens_BLD], dim=1)}
