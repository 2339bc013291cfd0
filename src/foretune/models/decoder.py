"""Our flat-token decoder of the Llama family: the weights and adapters of a loaded model, without padding or masks.

Llama, SmolLM, Mistral, Qwen 2 and Qwen 3 are one block with switches (bias, norm of queries and keys, grouped heads,
tied head). Everything else runs on the transformers class; `why_not_flat` says why.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: T tokens, D width, C outputs of a merged product, N rows asked for, V vocabulary, P soft-prompt tokens.
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from foretune.data.token_tree import MIN_PREFIX_TOKENS
from foretune.errors import ConfigError
from foretune.models.adapter import LoraLinear, SoftPrompt
from foretune.models.flat_attention import Heads, Segment, flat_attention, rotary_tables
from foretune.models.flat_head import HeadLoss, TokenLosses, head_loss, token_losses
from foretune.models.flat_rules import FLAT_FAMILIES, row_multiple, why_config_is_not_flat
from foretune.models.kernels import Kernels, load_kernels
from foretune.models.load import LoadedModel
from foretune.models.lora_math import (
    Slot,
    adapted_product,
    dropped,
    frozen_product,
    gated,
    joined_ranks,
    rms_norm,
    trained_product,
)

__all__ = ["FLAT_FAMILIES", "Attend", "FlatModel", "FlatSettings", "FlatTokens", "flat_model", "why_not_flat"]

# Attention of a layer, by its number: queries, keys and values side by side [T, C], cosines and sines -> [T, H E].
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FlatSettings:
    """The techniques, each a switch; every setting gives the same gradient within rounding."""

    precision: Literal["bf16", "fp32"] = "fp32"
    has_merged_products: bool = True  # queries, keys and values in one product; gate and up in one
    has_joined_ranks: bool = True  # all A-products of one input in one, gradients by hand
    residual: Literal["fp32", "same"] = "fp32"  # type of the sums between layers; "same" as the products
    rank_path: Literal["fp32", "same"] = "same"  # "same" as the base product, sums in fp32; fp32: slower, finer
    has_packing: bool = True  # many samples a micro-batch; off: one at a time
    has_shared_prefix: bool = True  # off by itself while LoRA dropout acts
    min_prefix_tokens: int = MIN_PREFIX_TOKENS
    head_rows: int = 64  # predictions whose logits exist at once; 0: all
    has_kernels: bool = True  # fused kernels on a CPU, where they were built
    prunes_last_layer: bool = True  # behind the last attention only rows that are asked for
    caches_trunk: bool = True  # states behind layers below everything that is trained are kept from epoch to epoch

    @property
    def row_multiple(self) -> int:
        """Tokens and predictions of a pass are filled up to a multiple of this."""
        return row_multiple(self.precision, has_kernels=self.has_kernels)

    @property
    def kernels(self) -> Kernels | None:
        """The fused kernels, None where they are off or were not built."""
        return load_kernels() if self.has_kernels else None

    @property
    def logit_rows(self) -> int:
        """Predictions at once: the fused loss keeps bf16 logits alone, so that four times as many take no more room."""
        return self.head_rows * (4 if self.kernels is not None and self.precision == "bf16" else 1)

    @property
    def dtype(self) -> torch.dtype:
        """The type of products and activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def residual_dtype(self) -> torch.dtype:
        """The type of the sums between layers."""
        return torch.float32 if self.residual == "fp32" else self.dtype


@dataclass(frozen=True)
class FlatTokens:
    """What a pass reads: ids (negative: soft-prompt rows -1, -2 ...), positions, segments, and the rows asked for."""

    ids_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    rows_N: Tensor
    states_TD: Tensor | None = None  # states behind the frozen layers, where they are known


def why_not_flat(loaded: LoadedModel, *, max_seq_len: int = 0) -> str:
    """Why this model cannot run as flat tokens; empty where it can.

    A sliding window is harmless where `max_seq_len` (0: unknown) stays within it.
    """
    if loaded.kind == "seq2seq":
        return f"{loaded.family} is an encoder-decoder"
    config: Any = loaded.model.config
    reason = why_config_is_not_flat(config.to_dict(), device=loaded.device.type, max_seq_len=max_seq_len)
    if reason:
        return reason
    odd = next((n for n, m in loaded.model.named_modules() if n.endswith("_proj") and not _is_plain(m)), "")
    return f"{odd} is neither a linear layer nor one of our adapters" if odd else ""


def _is_plain(module: nn.Module) -> bool:
    base = module.base if isinstance(module, LoraLinear) else module
    return type(base) is nn.Linear and base.weight.is_floating_point()


class Storage(Protocol):
    """Where products take their weights from."""

    copied_bytes: int

    def merged(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The parameters below each other, as a tensor without gradient of its own."""
        ...

    def restore(self) -> None:
        """Undo what was done to the parameters."""
        ...


class _Storage:
    """Merged and cast weights; the loaded model's own parameters become views of them where that loses nothing."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.cast: list[tuple[nn.Parameter, torch.dtype]] = []
        self.copied_bytes = 0

    def merged(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The parameters below each other; trained ones keep their type, frozen ones are cast to the storage's."""
        kept = parameters[0].dtype if parameters[0].requires_grad else self.dtype
        whole = torch.cat([p.data.to(kept) for p in parameters]) if len(parameters) > 1 else parameters[0].data.to(kept)
        start = 0
        for parameter in parameters:
            piece = whole[start : start + len(parameter)]
            start += len(parameter)
            if torch.equal(piece.to(parameter.dtype), parameter.data):
                if parameter.dtype != kept:
                    self.cast.append((parameter, parameter.dtype))
                parameter.data = piece
            else:
                self.copied_bytes += piece.nbytes
        return whole

    def restore(self) -> None:
        """Give the parameters their old type again (exact: only what survives the cast was replaced)."""
        for parameter, dtype in self.cast:
            parameter.data = parameter.data.to(dtype)
        self.cast.clear()


class _Product:
    """Linear layers of one input as one product, with their adapters."""

    def __init__(self, layers: Sequence[nn.Module], storage: Storage, settings: FlatSettings) -> None:
        bases = [layer.base if isinstance(layer, LoraLinear) else layer for layer in layers]
        self.weights = tuple(_parameter(base, "weight") for base in bases)
        self.biases = tuple(_parameter(base, "bias") if base.bias is not None else None for base in bases)
        self.weight_OI = storage.merged(self.weights)
        self.is_trained = self.weights[0].requires_grad
        self.settings = settings
        self.adapters = [layer for layer in layers if isinstance(layer, LoraLinear)]
        self.slots: list[Slot] = []
        start = 0
        for layer, weight in zip(layers, self.weights, strict=True):
            if isinstance(layer, LoraLinear):
                self.slots.append(Slot(start, start + len(weight), layer.scale))
            start += len(weight)

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        if all(bias is None for bias in self.biases):
            return None
        pairs = zip(self.weights, self.biases, strict=True)
        return torch.cat([w.new_zeros(len(w)) if b is None else b.detach() for w, b in pairs]).to(dtype)

    def __call__(self, x_TI: Tensor, residual_TO: Tensor | None = None) -> Tensor:
        """residual + x W + bias + the adapters' change."""
        weight_OI, bias_O, kernels = self.weight_OI.to(x_TI.dtype), self._bias(x_TI.dtype), self.settings.kernels
        if self.is_trained:
            return trained_product(x_TI, weight_OI, bias_O, residual_TO, self.weights, self.biases, kernels)
        if not self.adapters:
            return frozen_product(x_TI, weight_OI, bias_O, residual_TO, kernels)
        if not self.settings.has_joined_ranks or len({layer.dropout for layer in self.adapters}) > 1:
            return self._separate_ranks(x_TI, frozen_product(x_TI, weight_OI, bias_O, residual_TO, kernels))
        matrices = tuple(m for layer in self.adapters for m in (layer.lora_a, layer.lora_b))
        rank_dtype = torch.float32 if self.settings.rank_path == "fp32" else x_TI.dtype
        drop = dropped(x_TI, self.adapters[0].dropout) if self.adapters[0].training else None
        slots = tuple(self.slots)
        return adapted_product(x_TI, weight_OI, bias_O, residual_TO, slots, matrices, rank_dtype, drop, kernels)

    def fold(self) -> None:
        """Add the adapters into a copy of the weight; `unfold` ends that."""
        matrices = tuple(m for layer in self.adapters for m in (layer.lora_a, layer.lora_b))
        ranks = joined_ranks(tuple(self.slots), matrices, len(self.weight_OI), torch.float32)
        change_OI = ranks.b_OR @ ranks.a_RI
        self.plain_OI, self.weight_OI = self.weight_OI, change_OI.add_(self.weight_OI).to(self.weight_OI.dtype)
        self.folded, self.adapters = self.adapters, []

    def unfold(self) -> None:
        """The base's own weight again, and the adapters beside it."""
        self.weight_OI, self.adapters = self.plain_OI, self.folded

    def _separate_ranks(self, x_TI: Tensor, y_TO: Tensor) -> Tensor:
        pieces: list[Tensor] = []
        done = 0
        for slot, layer in zip(self.slots, self.adapters, strict=True):
            dropped_TI = functional.dropout(x_TI, layer.dropout, layer.training).float()
            change = functional.linear(functional.linear(dropped_TI, layer.lora_a), layer.lora_b) * layer.scale
            pieces += [y_TO[:, done : slot.start], y_TO[:, slot.start : slot.end] + change.to(y_TO.dtype)]
            done = slot.end
        return torch.cat([*pieces, y_TO[:, done:]], 1)


def _run(layer: Any, *inputs: Any) -> Tensor:
    result: Tensor = layer(*inputs)
    return result


def _num_frozen(model: Any, layers: Sequence[nn.Module]) -> int:
    """Layers below everything that is trained, the last one never; 0 where what stands before them is trained."""
    inside = {id(p) for layer in layers for p in layer.parameters()}
    after = {id(p) for m in (getattr(model, "score", None), model.base_model.norm) if m for p in m.parameters()}
    if any(p.requires_grad and id(p) not in inside | after for p in model.parameters()):
        return 0
    trained = [i for i, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())]
    return min(trained[0] if trained else len(layers) - 1, len(layers) - 1)


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    parameter = getattr(module, name)
    assert isinstance(parameter, nn.Parameter)
    return parameter


class _Products:
    """Several layers of one input: one merged product, or one each where merging is switched off."""

    def __init__(self, layers: Sequence[nn.Module], storage: Storage, settings: FlatSettings) -> None:
        groups = [layers] if settings.has_merged_products else [[layer] for layer in layers]
        self.products = [_Product(group, storage, settings) for group in groups]

    def __call__(self, x_TI: Tensor) -> Tensor:
        """All outputs side by side."""
        outputs = [product(x_TI) for product in self.products]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


class FlatLayer:
    """One decoder layer: norm, attention, norm, gated network."""

    def __init__(self, layer: Any, heads: Heads, epsilon: float, storage: Storage, settings: FlatSettings) -> None:
        attention, network = layer.self_attn, layer.mlp
        self.heads, self.epsilon, self.dtype = heads, epsilon, settings.dtype
        self.kernels = settings.kernels
        self.norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        has_head_norms = hasattr(attention, "q_norm")
        self.head_norms = (attention.q_norm.weight, attention.k_norm.weight) if has_head_norms else None
        self.qkv = _Products([attention.q_proj, attention.k_proj, attention.v_proj], storage, settings)
        self.out = _Product([attention.o_proj], storage, settings)
        self.gate_up = _Products([network.gate_proj, network.up_proj], storage, settings)
        self.down = _Product([network.down_proj], storage, settings)

    @property
    def products(self) -> list[_Product]:
        """All products with a weight."""
        return [*self.qkv.products, self.out, *self.gate_up.products, self.down]

    def _normed_heads(self, qkv_TC: Tensor) -> Tensor:
        if self.head_norms is None:
            return qkv_TC
        num, num_keys, width = self.heads
        queries, keys, values = qkv_TC.split([num * width, num_keys * width, num_keys * width], -1)
        parts = [
            rms_norm(x.unflatten(-1, (-1, width)), weight, self.epsilon, self.dtype, self.kernels).flatten(-2)
            for x, weight in zip((queries, keys), self.head_norms, strict=True)
        ]
        return torch.cat([*parts, values], -1)

    def __call__(
        self,
        x_TD: Tensor,
        rotary: tuple[Tensor, Tensor],
        tokens: FlatTokens,
        rows_N: Tensor | None,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """[T, D] -> [T, D], or [N, D] of the rows asked for."""
        qkv_TC = self._normed_heads(self.qkv(rms_norm(x_TD, self.norms[0], self.epsilon, self.dtype, self.kernels)))
        mixed = (
            attend(qkv_TC, *rotary)
            if attend
            else flat_attention(qkv_TC, *rotary, tokens.segments, self.heads, self.kernels)
        )
        if rows_N is not None:
            x_TD, mixed = x_TD[rows_N], mixed[rows_N]
        x_TD = self.out(mixed, x_TD)
        return self.down(
            gated(self.gate_up(rms_norm(x_TD, self.norms[1], self.epsilon, self.dtype, self.kernels)), self.kernels),
            x_TD,
        )


class Layer(Protocol):
    """What a flat model asks of a layer; it is called as `FlatLayer` is."""

    @property
    def products(self) -> list[_Product]:
        """All products with a weight."""
        ...

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        """[T, D] -> [T, D], or [N, D] of the rows asked for."""
        ...


class FlatModel:
    """A loaded model run over flat tokens; it trains the loaded model's own parameters.

    While frozen weights are held in bf16 (`restore` ends that, exactly), use the loaded module only through this.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: FlatSettings,
        *,
        storage: Storage | None = None,
        layers: Sequence[Layer] | None = None,
    ) -> None:
        self.loaded, self.settings = loaded, settings
        model: Any = loaded.model
        config, decoder = model.config, model.base_model
        self.heads = Heads(config.num_attention_heads, config.num_key_value_heads, decoder.layers[0].self_attn.head_dim)
        self.epsilon = float(config.rms_norm_eps)
        self.storage: Storage = storage or _Storage(settings.dtype)
        self.embedding: nn.Embedding = decoder.embed_tokens
        self.head = model.get_output_embeddings() if loaded.kind == "causal" else model.score
        self.norm = decoder.norm
        self.read()
        self.layers: Sequence[Layer] = layers or [
            FlatLayer(layer, self.heads, self.epsilon, self.storage, settings) for layer in decoder.layers
        ]
        self.rotary: Any = decoder.rotary_emb
        soft = getattr(model, "soft_prompt", None)
        self.soft_prompt = soft if isinstance(soft, SoftPrompt) else None
        self.num_frozen = _num_frozen(model, decoder.layers)
        self.recomputes = False  # activations of a layer are computed again in the backward pass, not kept

    def read(self) -> None:
        """Take the weights outside the layers from where they are now."""
        table, weight = _parameter(self.embedding, "weight"), _parameter(self.head, "weight")
        self.table_VD = self.storage.merged([table])
        self.head_VD = self.table_VD if weight is table else self.storage.merged([weight])
        self.norm_D = _parameter(self.norm, "weight")

    @property
    def num_prompt_tokens(self) -> int:
        """Soft-prompt tokens before every sample."""
        return 0 if self.soft_prompt is None else len(self.soft_prompt.embedding)

    @property
    def copied_bytes(self) -> int:
        """Bytes of weights held twice, because casting them would have lost digits."""
        return self.storage.copied_bytes

    @property
    def shares_prefixes(self) -> bool:
        """Whether a common prefix may be computed once: not while LoRA dropout acts, which makes copies differ."""
        return self.settings.has_shared_prefix and not any(
            isinstance(module, LoraLinear) and module.training and module.dropout > 0
            for module in self.loaded.model.modules()
        )

    def restore(self) -> None:
        """Give the loaded model its own types back, before it is saved, merged or run by itself."""
        self.storage.restore()

    def _embedded(self, ids_T: Tensor) -> Tensor:
        table_VD = self.embedding.weight if self.embedding.weight.requires_grad else self.table_VD
        x_TD = functional.embedding(ids_T.clamp(min=0), table_VD, self.embedding.padding_idx).to(
            self.settings.residual_dtype
        )
        if self.soft_prompt is None:
            return x_TD
        (places,) = torch.nonzero(ids_T < 0, as_tuple=True)
        return x_TD.index_put((places,), self.soft_prompt.embedding[-1 - ids_T[places]].to(x_TD.dtype))

    def _rotary(self, tokens: FlatTokens) -> tuple[Tensor, Tensor]:
        inverse_frequencies, scale = self.rotary.inv_freq, float(self.rotary.attention_scaling)
        return rotary_tables(tokens.positions_T, inverse_frequencies, scale)

    def _trunk(self, tokens: FlatTokens, rotary: tuple[Tensor, Tensor], attend: Attend | None = None) -> Tensor:
        """States behind the layers below everything that is trained, [T, D]; without a graph where there are any."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.num_frozen):
            x_TD = self._embedded(tokens.ids_T)
            for number in range(self.num_frozen):
                x_TD = self.layers[number](x_TD, rotary, tokens, None, partial(attend, number) if attend else None)
        return x_TD

    @torch.no_grad()
    def trunk(self, tokens: FlatTokens) -> Tensor:
        """States of all tokens behind the layers below everything that is trained, [T, D]: the same in every epoch."""
        return self._trunk(tokens, self._rotary(tokens))

    @property
    def trunk_type(self) -> tuple[int, int, torch.dtype]:
        """What the states of a trunk depend on beside the tokens: frozen layers below, width, type."""
        return self.num_frozen, self.embedding.weight.shape[1], self.settings.residual_dtype

    @staticmethod
    def _recomputed(layer: Any, *inputs: Any) -> Tensor:
        """A layer that keeps its inputs alone, and is computed again on the way back."""
        result: Tensor = checkpoint(layer, *inputs, use_reentrant=False)
        return result

    def hidden(self, tokens: FlatTokens, attend: Attend | None = None) -> Tensor:
        """Normed last hidden states of the rows asked for, [N, D].

        `attend` takes the place of attention among the tokens themselves, for those that read a cache.
        """
        rotary = self._rotary(tokens)
        x_TD = self._trunk(tokens, rotary, attend) if tokens.states_TD is None else tokens.states_TD
        runs = self._recomputed if self.recomputes and torch.is_grad_enabled() else _run
        for number in range(self.num_frozen, len(self.layers)):
            layer = self.layers[number]
            is_pruned = layer is self.layers[-1] and self.settings.prunes_last_layer
            own = partial(attend, number) if attend else None
            x_TD = runs(layer, x_TD, rotary, tokens, tokens.rows_N if is_pruned else None, own)
        x_ND = x_TD if self.settings.prunes_last_layer else x_TD[tokens.rows_N]
        return rms_norm(x_ND, self.norm_D, self.epsilon, self.settings.dtype, self.settings.kernels)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """What the head says of every row, [N, V]."""
        return functional.linear(hidden_ND, self.head_VD.to(hidden_ND.dtype), self.head.bias)

    @contextmanager
    def folded(self, *, most_bytes: int) -> Iterator[None]:
        """Inside the block the adapters are part of the weights, in copies: exact within rounding, without gradients.

        Nothing is folded where the copies would take more than `most_bytes`.
        """
        adapted = [product for layer in self.layers for product in layer.products if product.adapters]
        if sum(product.weight_OI.nbytes for product in adapted) > most_bytes:
            adapted = []
        try:
            with torch.no_grad():
                for product in adapted:
                    product.fold()
            yield
        finally:
            for product in adapted:
                product.unfold()

    def loss(self, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor) -> HeadLoss:
        """Weighted sum of the cross-entropies of `targets_N`, in nats."""
        weight = _parameter(self.head, "weight")
        cast_VD = self.head_VD.to(hidden_ND.dtype)
        return head_loss(
            hidden_ND,
            cast_VD,
            weight,
            targets_N,
            weights_N,
            rows=self.settings.logit_rows,
            kernels=self.settings.kernels,
        )

    def token_losses(self, hidden_ND: Tensor, targets_N: Tensor) -> TokenLosses:
        """The cross-entropy of each of `targets_N` by itself, in nats."""
        weight = _parameter(self.head, "weight")
        cast_VD = self.head_VD.to(hidden_ND.dtype)
        return token_losses(
            hidden_ND, cast_VD, weight, targets_N, rows=self.settings.logit_rows, kernels=self.settings.kernels
        )


def flat_model(loaded: LoadedModel, settings: FlatSettings, *, max_seq_len: int = 0) -> FlatModel | None:
    """The flat form of a loaded model with its adapter attached, or None where `why_not_flat` has a reason.

    Raises ConfigError where an adapter sits on a base that is itself trained.
    """
    if why_not_flat(loaded, max_seq_len=max_seq_len):
        return None
    for name, module in loaded.model.named_modules():
        if isinstance(module, LoraLinear) and module.weight.requires_grad:
            raise ConfigError(f"{name} has an adapter and a trained base weight", fix="freeze the base")
    return FlatModel(loaded, settings)
