"""Decoders of the GPT line (fused attention, plain networks, position tables) and T5's encoder-decoders."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable

from foretune.models.blocks import Attention, decoder_shape, gated
from foretune.models.sizes import Parts, Reader, Shape

__all__ = ["FAMILIES"]


def _gpt_shape(
    read: Reader,
    family: str,
    parts: Parts,
    attention: Attention,
    *,
    width: int,
    ffn: int,
    positions: int = 0,
    table: int = 0,
    is_tied: bool = True,
    has_head_bias: bool = False,
) -> Shape:
    """A decoder of the GPT line: `positions` it can have (0 = no limit), `table` rows of learned ones."""
    parts.attention_layers = len(parts.blocks)
    return decoder_shape(
        read,
        family,
        parts,
        attention,
        width=width,
        num_layers=len(parts.blocks),
        ffn=ffn,
        is_tied=read.flag("tie_word_embeddings", is_tied),
        has_head_bias=has_head_bias,
        max_len=positions or None,
        extra_embeddings=table * width,
    )


def _heads(read: Reader, width: int, *names: str) -> Attention:
    heads = read.size(*names)
    return Attention(heads, heads, max(1, width // heads))


def _gpt2(read: Reader, family: str) -> Shape:
    width, num_layers = read.size("n_embd", "hidden_size"), read.size("n_layer", "num_hidden_layers")
    positions = read.size("n_positions", "max_position_embeddings", default=1024)
    ffn = read.size("n_inner", default=4 * width)
    attention = _heads(read, width, "n_head", "num_attention_heads")
    if family == "gpt_bigcode" and read.flag("multi_query", True):
        attention = Attention(attention.heads, 1, attention.head)
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        parts.linear(f"{block}.attn.c_attn", width, width + 2 * attention.kv_width, True)
        parts.linear(f"{block}.attn.c_proj", width, width, True)
        parts.linear(f"{block}.mlp.c_fc", width, ffn, True)
        parts.linear(f"{block}.mlp.c_proj", ffn, width, True)
        parts.loose(4 * width)
        parts.end_block()
    parts.loose(2 * width)
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, table=positions)


def _gpt_neo(read: Reader, family: str) -> Shape:
    width, num_layers = read.size("hidden_size"), read.size("num_layers", "num_hidden_layers")
    positions = read.size("max_position_embeddings", default=2048)
    ffn = read.size("intermediate_size", default=4 * width)
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        for name in "kvq":
            parts.linear(f"{block}.attn.attention.{name}_proj", width, width)
        parts.linear(f"{block}.attn.attention.out_proj", width, width, True)
        parts.linear(f"{block}.mlp.c_fc", width, ffn, True)
        parts.linear(f"{block}.mlp.c_proj", ffn, width, True)
        parts.loose(4 * width)
        parts.end_block()
    parts.loose(2 * width)
    attention = _heads(read, width, "num_heads", "num_attention_heads")
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, table=positions)


def _gptj(read: Reader, family: str) -> Shape:
    """GPT-J and CodeGen: rotary positions, one norm a block, a head with bias."""
    width, num_layers = read.size("n_embd", "hidden_size"), read.size("n_layer", "num_hidden_layers")
    ffn = read.size("n_inner", default=4 * width)
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        if family == "codegen":
            parts.linear(f"{block}.attn.qkv_proj", width, 3 * width)
        else:
            for name in "kvq":
                parts.linear(f"{block}.attn.{name}_proj", width, width)
        parts.linear(f"{block}.attn.out_proj", width, width)
        parts.linear(f"{block}.mlp.fc_in", width, ffn, True)
        parts.linear(f"{block}.mlp.fc_out", ffn, width, True)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(2 * width)
    return _gpt_shape(
        read,
        family,
        parts,
        _heads(read, width, "n_head", "num_attention_heads"),
        width=width,
        ffn=ffn,
        positions=read.size("n_positions", default=2048),
        is_tied=False,
        has_head_bias=True,
    )


def _gpt_neox(read: Reader, family: str) -> Shape:
    """GPT-NeoX, Pythia, StableLM-alpha, Dolly."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    ffn, bias = read.size("intermediate_size"), read.flag("attention_bias", True)
    parts = Parts()
    for number in range(num_layers):
        block = f"gpt_neox.layers.{number}"
        _fused_attention(parts, f"{block}.attention", width, 3 * width, bias)
        _four_wide(parts, block, width, ffn, True)
        parts.loose(4 * width)
        parts.end_block()
    parts.loose(2 * width)
    positions = read.size("max_position_embeddings", default=2048)
    attention = _heads(read, width, "num_attention_heads")
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, is_tied=False)


def _fused_attention(parts: Parts, name: str, width: int, qkv: int, has_bias: bool) -> None:
    parts.linear(f"{name}.query_key_value", width, qkv, has_bias)
    parts.linear(f"{name}.dense", width, width, has_bias)


def _four_wide(parts: Parts, block: str, width: int, ffn: int, has_bias: bool) -> None:
    parts.linear(f"{block}.mlp.dense_h_to_4h", width, ffn, has_bias)
    parts.linear(f"{block}.mlp.dense_4h_to_h", ffn, width, has_bias)


def _bloom(read: Reader, family: str) -> Shape:
    width, num_layers = read.size("hidden_size", "n_embed"), read.size("n_layer", "num_hidden_layers")
    parts = Parts()
    parts.loose(2 * width)  # norm of the embeddings
    parts.start_blocks()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        _fused_attention(parts, f"{block}.self_attention", width, 3 * width, True)
        _four_wide(parts, block, width, 4 * width, True)
        parts.loose(4 * width)
        parts.end_block()
    parts.loose(2 * width)
    attention = _heads(read, width, "n_head", "num_attention_heads")
    return _gpt_shape(read, family, parts, attention, width=width, ffn=4 * width)


def _falcon(read: Reader, family: str) -> Shape:
    """Falcon 7B (one head of keys, one norm), 40B and 180B (eight heads of keys, two norms)."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers", "n_layer")
    heads, is_new = read.size("num_attention_heads", "n_head"), read.flag("new_decoder_architecture")
    kv_heads = read.size("num_kv_heads", "n_head_kv", default=heads)
    if not is_new:
        kv_heads = 1 if read.flag("multi_query", True) else heads
    attention = Attention(heads, kv_heads, max(1, width // heads))
    ffn, bias = read.size("ffn_hidden_size", default=4 * width), read.flag("bias")
    norms = read.size("num_ln_in_parallel_attn", default=2) if is_new else 1
    norms = norms if read.flag("parallel_attn", True) else 2
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        _fused_attention(parts, f"{block}.self_attention", width, width + 2 * attention.kv_width, bias)
        _four_wide(parts, block, width, ffn, bias)
        parts.loose(2 * norms * width)
        parts.end_block()
    parts.loose(2 * width)
    positions = read.size("max_position_embeddings", default=2048)
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions)


def _mpt(read: Reader, family: str) -> Shape:
    """No biases and ALiBi, so that there are no positions to learn; transformers ignores the expansion ratio."""
    width, num_layers = read.size("d_model", "hidden_size"), read.size("n_layers", "num_hidden_layers")
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.blocks.{number}"
        parts.linear(f"{block}.attn.Wqkv", width, 3 * width)
        parts.linear(f"{block}.attn.out_proj", width, width)
        parts.linear(f"{block}.ffn.up_proj", width, 4 * width)
        parts.linear(f"{block}.ffn.down_proj", 4 * width, width)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    positions = read.size("max_seq_len", default=2048)
    attention = _heads(read, width, "n_heads", "num_attention_heads")
    return _gpt_shape(read, family, parts, attention, width=width, ffn=4 * width, positions=positions)


def _opt(read: Reader, family: str) -> Shape:
    """Learned positions from 2 on; the 350M model embeds at half its width and norms after each part."""
    width, num_layers, ffn = read.size("hidden_size"), read.size("num_hidden_layers"), read.size("ffn_dim")
    positions, embedded = (
        read.size("max_position_embeddings", default=2048),
        read.size("word_embed_proj_dim", default=width),
    )
    norm = 2 * width if read.flag("layer_norm_elementwise_affine", True) else 0
    bias, parts = read.flag("enable_bias", True), Parts()
    if embedded != width:
        parts.linear("model.decoder.project_out", width, embedded)
        parts.linear("model.decoder.project_in", embedded, width)
    if read.flag("do_layer_norm_before", True) and not read.flag("_remove_final_layer_norm"):
        parts.loose(norm)
    parts.start_blocks()
    for number in range(num_layers):
        block = f"model.decoder.layers.{number}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            parts.linear(f"{block}.self_attn.{name}", width, width, bias)
        parts.linear(f"{block}.fc1", width, ffn, bias)
        parts.linear(f"{block}.fc2", ffn, width, bias)
        parts.loose(2 * norm)
        parts.end_block()
    attention = _heads(read, width, "num_attention_heads")
    parts.attention_layers = num_layers
    return decoder_shape(
        read,
        family,
        parts,
        attention,
        width=width,
        num_layers=num_layers,
        ffn=ffn,
        is_tied=read.flag("tie_word_embeddings", True),
        max_len=positions,
        embedding_width=embedded,
        extra_embeddings=(positions + 2) * width,
    )


def _chatglm(read: Reader, family: str) -> Shape:
    """ChatGLM 2 and 3, GLM-4-9B in their own code: few heads of keys, a fused gated network."""
    width, num_layers = read.size("hidden_size"), read.size("num_layers", "num_hidden_layers")
    heads, ffn = read.size("num_attention_heads"), read.size("ffn_hidden_size")
    groups = read.size("multi_query_group_num", default=1) if read.flag("multi_query_attention") else heads
    attention = Attention(heads, groups, read.size("kv_channels", default=max(1, width // heads)))
    bias, qkv_bias = read.flag("add_bias_linear"), read.flag("add_bias_linear") or read.flag("add_qkv_bias")
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.encoder.layers.{number}"
        qkv = attention.width + 2 * attention.kv_width
        parts.linear(f"{block}.self_attention.query_key_value", width, qkv, qkv_bias)
        parts.linear(f"{block}.self_attention.dense", attention.width, width, bias)
        parts.linear(f"{block}.mlp.dense_h_to_4h", width, 2 * ffn, bias)
        parts.linear(f"{block}.mlp.dense_4h_to_h", ffn, width, bias)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    positions = read.size("seq_length", default=8192)
    padded = Reader({**read.config, "vocab_size": read.size("padded_vocab_size", "vocab_size")})
    return _gpt_shape(padded, family, parts, attention, width=width, ffn=ffn, positions=positions, is_tied=False)


def _qwen(read: Reader, family: str) -> Shape:
    """The first Qwen in its own code; `intermediate_size` is that of gate and up projection together."""
    width, num_layers = read.size("hidden_size"), read.size("num_hidden_layers")
    attention = _heads(read, width, "num_attention_heads")
    ffn, bias = read.size("intermediate_size") // 2, not read.flag("no_bias", True)
    parts = Parts()
    for number in range(num_layers):
        block = f"transformer.h.{number}"
        parts.linear(f"{block}.attn.c_attn", width, 3 * width, True)
        parts.linear(f"{block}.attn.c_proj", width, width, bias)
        parts.linear(f"{block}.mlp.w1", width, ffn, bias)
        parts.linear(f"{block}.mlp.w2", width, ffn, bias)
        parts.linear(f"{block}.mlp.c_proj", ffn, width, bias)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    positions = read.size("seq_length", "max_position_embeddings", default=8192)
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, is_tied=False)


def _baichuan(read: Reader, family: str) -> Shape:
    """Baichuan and Baichuan 2 in their own code: a Llama with fused queries, keys and values."""
    width, num_layers, ffn = read.size("hidden_size"), read.size("num_hidden_layers"), read.size("intermediate_size")
    parts = Parts()
    for number in range(num_layers):
        block = f"model.layers.{number}"
        parts.linear(f"{block}.self_attn.W_pack", width, 3 * width)
        parts.linear(f"{block}.self_attn.o_proj", width, width)
        gated(parts, f"{block}.mlp", width, ffn)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    positions = read.size("model_max_length", "max_position_embeddings", default=4096)
    attention = _heads(read, width, "num_attention_heads")
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, is_tied=False)


def _internlm2(read: Reader, family: str) -> Shape:
    """InternLM 2 in its own code: a Llama with fused queries, keys and values."""
    width, num_layers, ffn = read.size("hidden_size"), read.size("num_hidden_layers"), read.size("intermediate_size")
    heads = read.size("num_attention_heads")
    attention = Attention(heads, read.size("num_key_value_heads", default=heads), max(1, width // heads))
    bias, parts = read.flag("bias"), Parts()
    for number in range(num_layers):
        block = f"model.layers.{number}"
        parts.linear(f"{block}.attention.wqkv", width, attention.width + 2 * attention.kv_width, bias)
        parts.linear(f"{block}.attention.wo", attention.width, width, bias)
        parts.linear(f"{block}.feed_forward.w1", width, ffn)
        parts.linear(f"{block}.feed_forward.w3", width, ffn)
        parts.linear(f"{block}.feed_forward.w2", ffn, width)
        parts.loose(2 * width)
        parts.end_block()
    parts.loose(width)
    positions = read.size("max_position_embeddings", default=32768)
    return _gpt_shape(read, family, parts, attention, width=width, ffn=ffn, positions=positions, is_tied=False)


def _t5(read: Reader, family: str) -> Shape:
    width, heads = read.size("d_model"), read.size("num_heads")
    attention, ffn = Attention(heads, heads, read.size("d_kv")), read.size("d_ff")
    encoder = read.size("num_layers")
    decoder = read.size("num_decoder_layers", default=encoder)
    feed_forward = str(read.config.get("feed_forward_proj", "relu" if family == "t5" else "gated-gelu"))
    is_gated, inner = feed_forward.startswith("gated"), attention.width
    bias_of_positions = read.size("relative_attention_num_buckets", default=32) * heads
    parts = Parts()
    for number in range(encoder):
        _t5_attention(parts, f"encoder.block.{number}.layer.0.SelfAttention", width, inner)
        _t5_ffn(parts, f"encoder.block.{number}.layer.1.DenseReluDense", width, ffn, is_gated)
        parts.loose(2 * width, bias_of_positions if number == 0 or family == "umt5" else 0)
        parts.end_block()
    for number in range(decoder):
        _t5_attention(parts, f"decoder.block.{number}.layer.0.SelfAttention", width, inner)
        _t5_attention(parts, f"decoder.block.{number}.layer.1.EncDecAttention", width, inner)
        _t5_ffn(parts, f"decoder.block.{number}.layer.2.DenseReluDense", width, ffn, is_gated)
        parts.loose(3 * width, bias_of_positions if number == 0 or family == "umt5" else 0)
        parts.end_block()
    parts.loose(2 * width)
    parts.attention_layers = encoder + decoder
    return decoder_shape(
        read,
        family,
        parts,
        attention,
        width=width,
        num_layers=encoder + decoder,
        ffn=ffn,
        is_tied=True,  # transformers 5 ties them whatever the file says
        max_len=None,
        is_encoder_decoder=True,
        has_gate=is_gated,
    )


def _t5_attention(parts: Parts, block: str, width: int, inner: int) -> None:
    for name in "qkv":
        parts.linear(f"{block}.{name}", width, inner)
    parts.linear(f"{block}.o", inner, width)


def _t5_ffn(parts: Parts, block: str, width: int, ffn: int, is_gated: bool) -> None:
    for name in ("wi_0", "wi_1") if is_gated else ("wi",):
        parts.linear(f"{block}.{name}", width, ffn)
    parts.linear(f"{block}.wo", ffn, width)


FAMILIES: dict[str, Callable[[Reader, str], Shape]] = {
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt2,
    "gpt_neo": _gpt_neo,
    "gptj": _gptj,
    "codegen": _gptj,
    "gpt_neox": _gpt_neox,
    "bloom": _bloom,
    "falcon": _falcon,
    "mpt": _mpt,
    "opt": _opt,
    "chatglm": _chatglm,
    "qwen": _qwen,
    "baichuan": _baichuan,
    "internlm2": _internlm2,
    "t5": _t5,
    "mt5": _t5,
    "umt5": _t5,
}
