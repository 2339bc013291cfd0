"""The bytes of a training step on one device, term by term, from a setup's arithmetic alone: no fitted number here."""

# SPDX-License-Identifier: Apache-2.0
#
# Letters: T tokens of the largest micro-batch on this device, d width, a all query widths, kv width of keys, f inner
# width, V vocabulary, L layers. Counts of saved elements follow the graph that autograd keeps (what each operation
# needs for its backward pass) with 16-bit products and norms in fp32.
from __future__ import annotations

from dataclasses import dataclass

from foretune.plan.setup import Parallel, Setup, weight_bytes

__all__ = ["Terms", "terms_of"]

# Bytes of one logit that live at once. full: 16-bit logits, their fp32 copy, a shifted copy of it, log-probabilities,
# and the gradient of one of them begun. half: logits, log-probabilities and gradient in 16 bits. chunked: 16-bit logits
# in pieces and one piece in fp32. fused: blocks that never leave the kernel.
LOGIT_BYTES = {"full": 14.0, "half": 8.0, "chunked": 3.5, "fused": 0.4, "unknown": 14.0}
HEAD_ADAPTER_BYTES = 4.0  # an adapter on the head: its own 16-bit logits and their sum with the head's
GATHERED_BLOCKS = 2  # the one in use and the next, which FSDP and ZeRO-3 fetch ahead
BUCKET_BYTES = 0.5e9  # DeepSpeed's default reduce bucket: 5e8 elements bound by 16-bit gradients in flight


@dataclass(frozen=True)
class Terms:
    """Bytes on the fullest device, before any fitted factor.

    `weights` are linear products, `dense` the other weights. `saved` is what the forward pass keeps of whole layers,
    `inputs` of checkpointed ones, `scores` of eager attention, `quantised_inputs` and `adapter_inputs` of products that
    need their inputs again; `layer` is the working set of one layer's backward pass, `dequantised` its largest weight
    unpacked, `step` what the optimiser step holds for a moment, `gathered` full weights fetched from shards,
    `evaluation` what generated batches need beyond the weights.
    """

    weights: float
    dense: float
    adapters: float
    gradients: float
    optimiser: float
    saved: float
    inputs: float
    layer: float
    scores: float
    quantised_inputs: float
    adapter_inputs: float
    dequantised: float
    logits: float
    gathered: float
    buckets: float
    step: float
    evaluation: float


def terms_of(setup: Setup) -> Terms:
    """All terms of one setup."""
    parallel = setup.parallel
    own = _own_parameters(setup)
    pairs = 2 if setup.objective == "dpo" else 1  # the chosen and the rejected answer
    tokens = pairs * setup.micro_tokens / parallel.context
    linear_bytes, dense_bytes = _weight_terms(setup, own)
    saved, quantised_inputs, adapter_inputs = _saved(setup, tokens)
    trained = _own_trained(setup, own)
    embeddings = _own_embeddings(setup)
    return Terms(
        weights=linear_bytes,
        dense=dense_bytes,
        adapters=0.0 if setup.trains_base else _adapter_weights(setup, trained, embeddings),
        gradients=_gradients(setup, trained, embeddings),
        optimiser=_optimiser(setup, trained, embeddings),
        saved=saved,
        inputs=_inputs(setup, tokens),
        layer=_layer(setup, tokens),
        scores=_scores(setup),
        quantised_inputs=quantised_inputs,
        adapter_inputs=adapter_inputs,
        dequantised=_dequantised(setup),
        logits=_logits(setup, tokens),
        gathered=_gathered(setup),
        buckets=_buckets(setup, trained),
        step=_step(setup, trained, embeddings),
        evaluation=_evaluation(setup),
    )


@dataclass(frozen=True)
class _Own:
    """Parameters of one device's part of the model, before sharding: quantisable linear weights and the rest."""

    linear: float
    rest: float


def _own_parameters(setup: Setup) -> _Own:
    """The fullest pipeline stage: its share of the blocks and the embedding, divided by tensor parallelism."""
    shape, parallel = setup.shape, setup.parallel
    dense = shape.linear_parameters - shape.expert_parameters
    linear = dense / parallel.tensor + shape.expert_parameters / max(parallel.tensor, parallel.expert)
    rest: float = shape.parameters - shape.linear_parameters
    if parallel.pipeline > 1:
        rest = shape.vocab_size * shape.width + shape.other_parameters / parallel.pipeline
    return _Own(linear / parallel.pipeline, rest / parallel.tensor)


def _sharded(parallel: Parallel, *stages: str) -> int:
    return parallel.shards if parallel.sharding in stages else 1


def _weight_terms(setup: Setup, own: _Own) -> tuple[float, float]:
    """Linear weights; the others, with a frozen 16-bit reference model where preferences train all weights."""
    if setup.parallel.offload == "all" and setup.parallel.sharding == "zero3":
        return 0.0, 0.0
    shards = _sharded(setup.parallel, "zero3")
    rest = setup.rest_bytes if setup.is_quantised else weight_bytes(setup.weights)
    reference = 2.0 * (own.linear + own.rest) if setup.trains_base and setup.objective in ("dpo", "ppo") else 0.0
    return own.linear * weight_bytes(setup.weights) / shards, (own.rest * rest + reference) / shards


def _own_trained(setup: Setup, own: _Own) -> float:
    if setup.trains_base:
        return own.linear + own.rest
    if setup.method == "weights":
        return 0.0
    parallel = setup.parallel
    return setup.adapter_parameters / (parallel.tensor * parallel.pipeline)


def _own_embeddings(setup: Setup) -> float:
    """Embedding and head trained beside adapters: copies in the base's 16 bits, so are their gradients and moments."""
    parallel = setup.parallel
    return setup.embedding_and_head / parallel.tensor if setup.trains_embeddings and not setup.trains_base else 0.0


def _adapter_weights(setup: Setup, trained: float, embeddings: float) -> float:
    return (trained * setup.adapter_bytes + embeddings * 2.0) / _sharded(setup.parallel, "zero3")


def _gradients(setup: Setup, trained: float, embeddings: float) -> float:
    if setup.is_fused_backward:
        return float(setup.shape.largest_block_parameters * setup.gradient_bytes)
    if setup.parallel.offload == "all" and setup.parallel.sharding == "zero3":
        return 0.0
    return (trained * setup.gradient_bytes + embeddings * 2.0) / _sharded(setup.parallel, "zero2", "zero3")


def _optimiser(setup: Setup, trained: float, embeddings: float) -> float:
    if setup.parallel.offload != "none":
        return 0.0
    shards = _sharded(setup.parallel, "zero1", "zero2", "zero3")
    return (trained * setup.state_bytes + embeddings * 4.0) / shards


# Families whose norms are fused layer norms, which keep their 16-bit input; root-mean-square norms keep it in fp32.
LAYER_NORMS = frozenset(
    "bloom codegen falcon gpt2 gpt_bigcode gpt_neo gpt_neox gptj mpt nemotron opt phi stablelm starcoder2".split()
)


def _layer_elements(setup: Setup) -> float:
    """Bytes that autograd keeps of one decoder layer for one token, without adapters.

    Frozen: input of two norms 8 d (fp32; 4 d in 16 bits), queries and attention output 4 a, keys and values 4 kv, and
    of the gated network its two products and their combination 6 f (one product 2 f without a gate). Trained weights
    keep their inputs too: normed values and product inputs 8 d (4 d), 2 a, and 2 f. One product for queries, keys and
    values keeps its whole output alive through the view of its values: 2 a + 2 kv.
    """
    shape = setup.shape
    network = 6.0 if shape.has_gate else 2.0
    norms = 4.0 if shape.family in LAYER_NORMS else 8.0
    frozen = norms * shape.width + 4.0 * shape.attention_width + 4.0 * shape.kv_width + network * shape.ffn_width
    if setup.has_fused_qkv:
        frozen += 2.0 * (shape.attention_width + shape.kv_width)
    if not setup.trains_base:
        return frozen
    return frozen + norms * shape.width + 2.0 * shape.attention_width + 2.0 * shape.ffn_width


def _depth(setup: Setup) -> float:
    """Layers whose activations one device holds at once: with pipelines, as many micro-batches are in flight."""
    parallel = setup.parallel
    layers = setup.shape.num_layers / parallel.pipeline
    in_flight = min(parallel.pipeline, max(1, setup.grad_accum_steps)) if parallel.pipeline > 1 else 1
    share = 0.5 if setup.shape.is_encoder_decoder else 1.0  # a token passes one half of the layers
    return layers * in_flight * share


def _kept_layers(setup: Setup) -> tuple[float, float]:
    """Layers that keep everything, and layers that keep only their input."""
    depth = _depth(setup)
    if setup.checkpointing == "none":
        return depth, 0.0
    if setup.checkpointing == "selective":
        return 0.6 * depth, 0.4 * depth
    if setup.checkpointed_layers:
        inputs = min(depth, setup.checkpointed_layers * depth / setup.shape.num_layers)
        return depth - inputs, inputs
    return 0.0, depth


def _saved(setup: Setup, tokens: float) -> tuple[float, float, float]:
    """What whole layers keep; inputs that their quantised products keep; inputs that their adapters keep."""
    if setup.method == "weights":
        return 0.0, 0.0, 0.0
    shape, tensor = setup.shape, setup.parallel.tensor
    whole, _ = _kept_layers(setup)
    saved = tokens * whole * _layer_elements(setup) / tensor
    quantised = 2.0 * tokens * whole * _product_inputs(setup) / tensor if setup.is_quantised else 0.0
    share = whole / max(1.0, float(shape.num_layers))
    return saved, quantised, tokens * share * _adapter_input_bytes(setup) / tensor


def _inputs(setup: Setup, tokens: float) -> float:
    """The 16-bit inputs of checkpointed layers."""
    if setup.method == "weights":
        return 0.0
    split = setup.parallel.tensor if setup.parallel.is_sequence_parallel else 1
    return tokens * _kept_layers(setup)[1] * 2.0 * setup.shape.width / split


def _product_inputs(setup: Setup) -> float:
    """Widths of the inputs of a layer's linear products."""
    shape = setup.shape
    return sum(layer.num_inputs for layer in shape.layers) / max(1, shape.num_layers)


def _adapter_input_bytes(setup: Setup) -> float:
    """Inputs that the adapters of all layers keep for one token, cast to the adapters' format."""
    if setup.method == "adapter" and setup.peft_kind == "v2":  # scales every output, trains every norm
        return 3.0 * sum(layer.num_outputs for layer in setup.shape.layers)
    each = setup.adapter_bytes if setup.adapter_bytes == 4.0 else 3.0  # 16 bits: the dropped-out input and its mask
    return each * sum(layer.num_inputs for layer in setup.targeted)


def _layer(setup: Setup, tokens: float) -> float:
    """One layer recomputed, its adapters' inputs, and the gradient that flows through its widest part."""
    if setup.method == "weights":
        return 0.0
    shape, tensor = setup.shape, setup.parallel.tensor
    each = _layer_elements(setup)
    flowing = 4.0 * shape.ffn_width + 2.0 * shape.width
    adapters = _adapter_input_bytes(setup) / max(1, shape.num_layers)
    if setup.checkpointing == "none":
        each, adapters = 0.0, 0.0
    return tokens * (each + flowing + adapters) / tensor


def _scores(setup: Setup) -> float:
    """Attention scores of eager kernels: 16-bit products, fp32 softmax and its 16-bit copy, for each kept layer."""
    if setup.attention != "eager":
        return 0.0
    whole, inputs = _kept_layers(setup)
    layers = whole + (1.0 if inputs else 0.0)
    pairs = setup.micro_batch_size * float(setup.max_seq_len) ** 2 / max(1, setup.parallel.context)
    return 6.0 * layers * pairs * setup.shape.num_heads / setup.parallel.tensor


def _dequantised(setup: Setup) -> float:
    """The largest quantised weight unpacked to 16 bits for its product."""
    if not setup.is_quantised:
        return 0.0
    return 2.0 * max((layer.num_inputs * layer.num_outputs for layer in setup.shape.layers), default=0)


def _logits(setup: Setup, tokens: float) -> float:
    if setup.method == "weights":
        return 0.0
    positions = tokens * (0.5 if setup.shape.is_encoder_decoder else 1.0)
    each = LOGIT_BYTES[setup.loss] + (HEAD_ADAPTER_BYTES if setup.adapts_head else 0.0)
    return each * positions * setup.shape.vocab_size / setup.parallel.tensor


def _gathered(setup: Setup) -> float:
    """Full weights in 16 bits fetched from shards: two blocks, and the embedding and head of the root unit."""
    parallel, shape = setup.parallel, setup.shape
    if parallel.sharding != "zero3" or (parallel.shards == 1 and parallel.offload == "none"):
        return 0.0
    if parallel.gathers_all:
        return 2.0 * shape.parameters
    bytes_each = weight_bytes(setup.weights) if setup.is_quantised else 2.0
    blocks = GATHERED_BLOCKS * shape.largest_block_parameters * bytes_each
    return (blocks + 2.0 * setup.embedding_and_head) / parallel.tensor


def _buckets(setup: Setup, trained: float) -> float:
    """Gradients gathered for communication: a copy under DDP, a bucket under DeepSpeed."""
    parallel = setup.parallel
    if parallel.data * parallel.context == 1:
        return 0.0
    if parallel.sharding == "none":
        return trained * setup.gradient_bytes
    return min(BUCKET_BYTES * 2, trained * setup.gradient_bytes)


def _step(setup: Setup, trained: float, embeddings: float) -> float:
    """Copies of one moment that AdamW makes for the whole list of parameters at once.

    With a fp32 master copy: ZeRO-3's fp32 gradients, in groups of 1e9 parameters.
    """
    if setup.is_fused_backward or setup.parallel.offload != "none" or setup.optimiser not in ("adamw", "lion"):
        return 0.0
    shards = _sharded(setup.parallel, "zero1", "zero2", "zero3")
    if setup.trains_base and setup.state_bytes > 8.0:
        return 4.0 * min(trained / shards, 1e9) if setup.state_bytes == 12.0 else 0.0
    return (trained * min(setup.state_bytes / 2, 4.0) + embeddings * 2.0) / shards


def _evaluation(setup: Setup) -> float:
    """Keys and values of generated batches, beside 16-bit logits of their last tokens."""
    rows = setup.eval_batch_size
    if not rows:
        return 0.0
    shape = setup.shape
    cache = 4.0 * shape.num_layers * shape.kv_width * rows * setup.max_seq_len
    return cache + 6.0 * rows * shape.vocab_size
