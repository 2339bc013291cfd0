"""Reported training runs as setups: each row of a table becomes a Setup, what it does not say is filled and stated."""

# SPDX-License-Identifier: Apache-2.0
#
# Columns are those of the observations table. Measured columns (hours, tokens a second, peak memory, cost) are never
# read here, and of the free notes only words that a user would write before a run.
from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from foretune.errors import ConfigError, DataError, Fault
from foretune.hardware.devices import find_device
from foretune.models.catalogue import shape_for
from foretune.models.shapes import Shape
from foretune.plan.adapters import adapters_of
from foretune.plan.cells import Row
from foretune.plan.frameworks import Framework, framework_of
from foretune.plan.layout import parallel_of
from foretune.plan.numerics import Job, numerics_of
from foretune.plan.setup import Attention, Checkpointing, LossKernel, Method, Objective, Parallel, Setup
from foretune.plan.workload import with_workload

__all__ = ["read_rows", "setup_of"]

USUAL_SEQ_LEN = 2048
FUSED_QKV = re.compile(r"(query_key_value|c_attn|w_pack|qkv_?proj|wqkv)$", re.IGNORECASE)


def setup_of(row: Mapping[str, str]) -> tuple[Setup, tuple[str, ...]]:
    """The setup of one row, and the assumptions made where its cells are empty.

    Raises DataError or ConfigError where a cell cannot be read or no model and no number of parameters is given.
    """
    cells = Row(row)
    framework, shape, num_gpus = framework_of(cells.text("framework")), _shape(cells), _num_gpus(cells)
    method, objective = _method(cells)
    parallel = parallel_of(cells, num_gpus, framework, method)
    device, memory_gb = _device(cells)
    numerics = numerics_of(cells, Job(shape, method, objective, framework, parallel, num_gpus, memory_gb))
    checkpointing, layers = _checkpointing(cells, framework)
    setup = Setup(
        shape=shape,
        model=cells.text("model"),
        method=method,
        objective=objective,
        device=device,
        device_memory_gb=memory_gb,
        num_gpus=num_gpus,
        parallel=parallel,
        checkpointing=checkpointing,
        checkpointed_layers=layers,
        attention=_attention(cells, framework, shape),
        loss=_loss(cells, framework),
        framework=cells.text("framework"),
        is_compiled="compile" in cells.hints,
        has_fused_qkv=framework.fused_qkv or any(FUSED_QKV.search(layer.name) for layer in shape.layers[:8]),
        **asdict(numerics),
        **_batch(cells, shape, parallel),
        **adapters_of(cells, shape, framework),
    )
    setup, assumed = with_workload(setup.changed(unknown=frozenset(cells.unknown)), row)
    return setup, (*cells.assumptions, *assumed)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its header; `#line` holds each row's line.

    Raises DataError where the file is no table with one of the columns `model` or `params_b`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{**row, "#line": str(reader.line_num)} for row in reader]
            header = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from error
    if not {"model", "params_b"} & set(header):
        fault = Fault(str(path), 1, "no column `model` or `params_b`", value=", ".join(header)[:80])
        raise DataError(str(fault), fix="name the model of each row in a column `model`", faults=(fault,))
    return rows


def _shape(row: Row) -> Shape:
    billions = row.number("params_b")
    name = row.text("model")
    if not name and not billions:
        raise DataError("neither `model` nor `params_b` is given, expected one of them", fix="fill the column `model`")
    try:
        shape, assumptions = shape_for(name or None, billions * 1e9 if billions else None, None)
    except ConfigError:
        if not billions:
            raise
        shape, assumptions = shape_for(None, billions * 1e9, None)
    row.assumptions += assumptions
    return shape


def _method(row: Row) -> tuple[Method, Objective]:
    text = row.text("method").lower()
    objective = _objective(text)
    if objective == "inference":
        return "weights", objective
    quantised = bool(re.search(r"nf4|int4|4.?bit|gptq|awq", row.text("precision/quantization").lower()))
    if "qlora" in text or "q-lora" in text:
        return "qlora", objective
    if re.search(r"lora|dora", text):
        return ("qlora" if quantised else "lora"), objective
    if re.search(r"prompt|p-?tuning|prefix", text):
        return "prompt", objective
    if "adapter" in text:
        return "adapter", objective
    if re.search(r"peft|ia3|vera|oft|randlora", text):
        return "peft", objective
    if not text:
        row.assume("method", "method not given: LoRA")
        return "lora", objective
    if quantised:
        row.assume("method", f"{text} on a quantised base: QLoRA, since quantised weights are not trained")
        return "qlora", objective
    return "full", objective


def _objective(text: str) -> Objective:
    for words, objective in (
        (r"ppo|grpo|rlhf|reinforce", "ppo"),
        (r"dpo|orpo|kto|preference", "dpo"),
        (r"pre-?train|cpt", "pretrain"),
        (r"^weights|inference|loading", "inference"),
    ):
        if re.search(words, text):
            return cast(Objective, objective)
    return "sft"


def _num_gpus(row: Row) -> int:
    number = row.count("n_gpus")
    if not number:
        row.assume("n_gpus", "number of devices not given: 1")
    return number or 1


def _batch(row: Row, shape: Shape, parallel: Parallel) -> dict[str, Any]:
    """Lengths, batch sizes and amounts of data, with what follows from the others derived."""
    micro, accum, total = (row.count(name) for name in ("micro_batch", "grad_accum", "global_batch"))
    copies = parallel.data
    if not micro and total and accum:
        micro = max(1, total // (accum * copies))
    if not micro:
        micro = 1
        row.assume("micro_batch", "micro-batch size not given: 1")
    if not accum:
        accum = max(1, round(total / (micro * copies))) if total else 1
    seq_len = _seq_len(row)
    if not seq_len:
        seq_len = min(USUAL_SEQ_LEN, shape.max_len or USUAL_SEQ_LEN)
        row.assume("seq_len", f"longest row not given: {seq_len} tokens")
    packing = row.text("packing").lower()
    if not packing:
        row.assume("packing", "packing not given: no")
    examples, tokens, epochs = (row.number(name) for name in ("examples", "tokens_total", "epochs"))
    mean = tokens / (examples * (epochs or 1)) if tokens and examples else 0.0
    return {
        "max_seq_len": seq_len,
        "micro_batch_size": micro,
        "grad_accum_steps": accum,
        "global_batch_size": total or micro * accum * copies,
        "packing": packing.startswith(("y", "t", "1")),
        "num_examples": int(examples),
        "tokens_total": tokens,
        "epochs": epochs,
        "steps": row.count("steps"),
        "mean_tokens": min(mean, float(seq_len)),
    }


def _seq_len(row: Row) -> int:
    """Longest row in tokens; `512 src + 129 tgt` is that of source and target together. Raises DataError."""
    parts = re.findall(r"\d+", row.text("seq_len"))
    return sum(int(part) for part in parts) if "+" in row.text("seq_len") and parts else row.count("seq_len")


def _device(row: Row) -> tuple[str, float]:
    name, memory = row.text("gpu"), row.number("gpu_mem_gb")
    device = find_device(name) if name else None
    if not name:
        row.assume("gpu", "device not given" + (f": one of {memory:g} GB" if memory else ""))
    return (device.name if device else name), memory or (device.memory_gb if device else 0.0)


def _checkpointing(row: Row, framework: Framework) -> tuple[Checkpointing, int]:
    """The mode, and the number of layers checkpointed where only some are (0 = all)."""
    text = row.text("activation_checkpointing").lower()
    if not text:
        mode = framework.checkpointing
        row.assume("checkpointing", f"activation checkpointing not given: {mode}")
        return cast(Checkpointing, mode), 0
    if "selective" in text:
        return "selective", 0
    layers = re.search(r"(\d+)\s*layers", text)
    if layers:
        return "full", int(layers.group(1))
    return ("none" if re.match(r"n|0|false|off", text) else "full"), 0


def _attention(row: Row, framework: Framework, shape: Shape) -> Attention:
    """The kernel that is stated; without a word encoders with decoders, whose biases fused kernels lack, run eager."""
    text = row.text("flash/kernel_notes").lower()
    if re.search(r"no flash|eager|flash n\b", text):
        return "eager"
    if re.search(r"flash|sdpa|xformers|mem.*efficient|cudnn|\bte\b|triton", text):
        return "flash"
    return "eager" if shape.is_encoder_decoder else cast(Attention, framework.attention)


def _loss(row: Row, framework: Framework) -> LossKernel:
    if re.search(r"liger|cut.?cross|\bcce\b|fused.{0,8}(linear|cross|ce\b)|linear cross", row.hints):
        return "fused"
    if re.search(r"chunked", row.hints):
        return "chunked"
    return cast(LossKernel, framework.loss)
