"""Other estimators' rules, computed on the planner's own setups: what its predictions are compared with."""

# SPDX-License-Identifier: Apache-2.0
#
# Written from what each tool publishes. All get the shape, the formats and the assumptions that the planner read from
# the row. The three rules for one device know no sharding: where weights are sharded or split, their weights and state
# are divided by the devices that share them, which helps them. None = the tool has no such case. Bytes, seconds.
from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

from foretune.models.shapes import Shape
from foretune.plan.gpu_work import Work, num_devices
from foretune.plan.setup import Setup

MIB, GIB = 2.0**20, 2.0**30
MemoryRule = Callable[[Setup], float | None]
TimeRule = Callable[[Setup, Work], float | None]


@dataclass(frozen=True)
class Peer:
    """A tool: its rules for peak bytes of a device and for seconds of one micro-batch, where it has them.

    `package` is what it needs to be installed as, empty for a rule that is computed here.
    """

    name: str
    source: str
    memory: MemoryRule | None = None
    time: TimeRule | None = None
    package: str = ""

    def missing(self) -> str:
        """Why it cannot be scored here; empty where it can."""
        if not self.package:
            return ""
        try:
            self.version()
            _llm_analysis() if self.package == "llm-analysis" else _ftune()
        except (PackageNotFoundError, ImportError) as error:
            return f"not installed: {error}"
        return ""

    def version(self) -> str:
        """The installed version, empty for a rule that is computed here. Raises PackageNotFoundError."""
        return version(self.package) if self.package else ""


def adapts(setup: Setup) -> bool:
    """Whether something beside a frozen base is trained."""
    return setup.method in ("lora", "qlora", "peft", "adapter", "prompt")


def _is_pure(setup: Setup) -> bool:
    """Whether weights, gradients and optimiser state are all kept in 16 bits or fewer."""
    return setup.weights != "fp32" and setup.state_bytes + setup.gradient_bytes <= 6.0


def devices_sharing(setup: Setup) -> float:
    """Devices that hold one copy of the weights between them."""
    parallel = setup.parallel
    shards = parallel.shards if parallel.sharding == "zero3" else 1
    return float(parallel.tensor * parallel.pipeline * shards)


# gpu_poor (github.com/RahulSChand/gpu_poor, src/App.js, read 2026-11-21). Its own count of parameters, 16-bit weights,
# gradients and Adam in 16 bits, LoRA of rank 8, scores of eager attention, 650 MiB. Letters: d width, f inner width.
def gpu_poor_parameters(shape: Shape) -> float:
    """Two embeddings, four square attention products, three network products in every layer."""
    d = float(shape.width)
    return 2 * d * shape.vocab_size + shape.num_layers * (4 * d * d + 3 * d * shape.ffn_width)


def gpu_poor_memory(setup: Setup) -> float | None:
    """Weights, state, activations (15 % of them with checkpointing), 650 MiB; it knows no split layers."""
    if setup.parallel.tensor * setup.parallel.pipeline > 1 or not (setup.trains_base or adapts(setup)):
        return None
    shape, shares = setup.shape, 0.15 if setup.checkpointing != "none" else 1.0
    held = (_gpu_poor_weights(setup) + _gpu_poor_state(setup)) / devices_sharing(setup)
    each = 32.0 * shape.width + 12.0 * shape.ffn_width + 8.0 + 8.0 * setup.max_seq_len * shape.num_heads
    extra = _gpu_poor_quantised(setup)
    return held + extra + shares * setup.micro_tokens * shape.num_layers * each + 650 * MIB


def _gpu_poor_weights(setup: Setup) -> float:
    parameters = gpu_poor_parameters(setup.shape)
    size = 2.0 * parameters
    if setup.weights == "int8":
        return 0.56 * size
    if setup.is_quantised:
        return 0.31 * size - parameters / 32
    return size


def _gpu_poor_state(setup: Setup) -> float:
    if setup.trains_base:
        return 6.0 * gpu_poor_parameters(setup.shape)
    each = 24.0 if setup.weights == "int8" else 6.0 if setup.is_quantised else 48.0
    return each * 8.0 * setup.shape.num_layers * setup.shape.width


def _gpu_poor_quantised(setup: Setup) -> float:
    """What it adds for quantised products: by the root of the length."""
    if not setup.is_quantised:
        return 0.0
    values = setup.shape.num_layers * (15.0 * setup.shape.width + 6.0 * setup.shape.ffn_width)
    longer = math.sqrt(max(1.0, setup.max_seq_len / 50))
    return values * 50 * longer * setup.micro_batch_size * (0.9375 if setup.weights == "int8" else 0.75)


def gpu_poor_time(setup: Setup, work: Work) -> float | None:
    """Twice the forward operations, 15 % for Adam, three times that for full training, at 85 % of the peak."""
    if setup.num_gpus > 1 or setup.objective != "sft" or not (setup.trains_base or adapts(setup)):
        return None
    shape = setup.shape
    flops = 2.0 * work.tokens * (gpu_poor_parameters(shape) + shape.width * shape.num_layers)
    cost = 3.0 if setup.weights == "int8" else 1.75 if setup.is_quantised else 1.0
    again = 1.65 if setup.checkpointing != "none" else 1.0
    return 2.0 * 1.15 * flops * cost * (3.0 if setup.trains_base else 1.0) * again / (0.85 * work.peak)


# accelerate estimate-memory (github.com/huggingface/accelerate, commands/estimate.py, read 2026-11-21): the largest of
# weights, gradients, optimiser and step: 16 bytes a parameter in its fp32 column, taken where a run keeps fp32 state, 8
# in its 16-bit column. It has no adapters: 1.2 times the weights stands in, its documentation's rule for inference.
def accelerate_memory(setup: Setup) -> float | None:
    """16 or 8 bytes a parameter; adapters 1.2 times the weights."""
    shape = setup.shape
    if setup.trains_base:
        each = 8.0 if _is_pure(setup) else 16.0
    elif adapts(setup):
        each = 1.2 * (0.5 if setup.weights in ("nf4", "nf4-dq", "int4") else 1.0 if setup.weights == "int8" else 2.0)
        each *= 2.0 if setup.weights == "fp32" else 1.0
    else:
        return None
    return each * shape.parameters / devices_sharing(setup)


# LLaMA-Factory (github.com/hiyouga/LLaMA-Factory, README, "Hardware Requirement, estimated", its column for x billion
# parameters, read 2026-11-21).
def llama_factory_memory(setup: Setup) -> float | None:
    """18, 8, 2, 1 or 0.5 GB for each billion parameters."""
    if setup.trains_base:
        each = 8.0 if _is_pure(setup) else 18.0
    elif adapts(setup):
        each = 0.5 if setup.weights in ("nf4", "nf4-dq", "int4") else 1.0 if setup.weights == "int8" else 2.0
    else:
        return None
    return each * setup.shape.parameters / devices_sharing(setup)


def six_n_d(setup: Setup, work: Work) -> float | None:
    """6 operations for each parameter and token, at 40 % of the 16-bit peak (Kaplan et al. 2020, arXiv 2001.08361)."""
    if setup.objective == "inference":
        return None
    return 6.0 * setup.shape.active_parameters * work.reported_tokens / (0.4 * work.peak * num_devices(setup))


# llm-analysis 0.2.2 (the package llm-analysis): its classes, with the inner width that makes its count of weights
# right, the formats that the row keeps its state in, and a flops_efficiency of 0.5, as Megatron-LM reaches by
# its own notes. It plans full training of decoders only.
@cache
def _llm_analysis() -> Any:
    analysis = importlib.import_module("llm_analysis.analysis")
    logging.getLogger("__name__").setLevel(logging.ERROR)
    return analysis


def _model_of(setup: Setup, longest: int) -> Any:
    shape, tool = setup.shape, _llm_analysis()
    attention = 2.0 * shape.width**2 * (1 + shape.num_kv_heads / shape.num_heads)
    active = shape.active_linear_parameters / shape.num_layers
    inner = max(1.0, (active - attention) / (2 * shape.width * max(1, shape.experts_per_token)))
    return tool.ModelConfig(
        name=setup.model or shape.family,
        num_layers=shape.num_layers,
        n_head=shape.num_heads,
        hidden_dim=shape.width,
        vocab_size=shape.vocab_size,
        max_seq_len=max(longest, shape.max_len or 0),
        num_key_value_heads=shape.num_kv_heads,
        ffn_embed_dim=inner,
        expansion_ratio=inner / shape.width,
        moe_num_experts=max(1, shape.num_experts),
        moe_top_k=max(1, shape.experts_per_token),
    )


def _analysed(setup: Setup, batch: float, length: int, peak: float, bits: int, *, is_split: bool) -> dict[str, Any]:
    """The tool's own answer for one micro-batch. Raises AssertionError for a shape that it refuses."""
    tool, parallel = _llm_analysis(), setup.parallel
    stages = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}
    again = {"full": "FULL", "selective": "SELECTIVE"}.get(setup.checkpointing, "NONE")
    split = {"tp_size": parallel.tensor, "pp_size": parallel.pipeline, "dp_size": parallel.shards} if is_split else {}
    device = tool.GPUConfig(
        "device", 1e9, 2e3, 300, 8e-6, peak / 1e12
    )  # without a limit it answers where it would stop
    pure = {
        "master_weights_dtype_bytes": setup.gradient_bytes,
        "other_op_bytes": setup.state_bytes - setup.gradient_bytes,
    }
    state = pure if _is_pure(setup) else {}
    answer: dict[str, Any] = tool.LLMAnalysis(
        _model_of(setup, length),
        device,
        tool.DtypeConfig("row", bits, bits, 16),
        tool.ParallelismConfig(**split),
        flops_efficiency=0.5,
    ).training(
        batch_size_per_gpu=max(1, round(batch)),
        seq_len=length,
        activation_recomputation=tool.ActivationRecomputation[again],
        ds_zero=tool.DSZeRO(stages[parallel.sharding]),
        **state,
        flash_attn=setup.attention != "eager",
    )
    return answer


def _is_planned(setup: Setup) -> bool:
    known = setup.trains_base and setup.objective in ("sft", "pretrain") and not setup.shape.is_encoder_decoder
    return known and setup.parallel.offload == "none" and not setup.is_fused_backward


def llm_analysis_memory(setup: Setup) -> float | None:
    """Its weights, optimiser, gradients and activations of one device."""
    if not _is_planned(setup):
        return None
    try:
        answer = _analysed(setup, setup.micro_batch_size, setup.max_seq_len, 312e12, 16, is_split=True)
    except AssertionError:
        return None
    extra = 2.0 if setup.weights == "fp32" else 1.0  # it has no 32-bit products: its weights and values doubled
    state = answer["optimizer_state_memory_per_gpu"] + answer["gradient_memory_per_gpu"]
    return float(extra * (answer["weight_memory_per_gpu"] + answer["activation_memory_per_gpu"]) + state)


def llm_analysis_time(setup: Setup, work: Work) -> float | None:
    """Its operations of a micro-batch at half of the peak, over the devices that share a copy of the model."""
    if not _is_planned(setup):
        return None
    length = max(1, round(work.row_tokens))
    try:
        bits = 8 if work.has_fp8 else 16
        answer = _analysed(setup, work.tokens / work.row_tokens, length, work.peak, bits, is_split=False)
    except AssertionError:
        return None
    rows = work.tokens / work.row_tokens / max(1, round(work.tokens / work.row_tokens))
    return float(answer["latency_per_micro_batch"]) * rows * work.replicas / num_devices(setup)


# ftune (the package ftuneai): its classes with the row's own shape, so that it needs no network. It plans full,
# LoRA and QLoRA fine-tuning, copies or sharded; of its three sets of targets the one nearest in parameters.
@cache
def _ftune() -> Any:
    return SimpleNamespace(
        **{name: importlib.import_module(f"ftuneai.core.{name}") for name in ("memory", "models", "time")}
    )


def _ftune_parts(setup: Setup) -> tuple[Any, Any] | None:
    parallel = setup.parallel
    if setup.objective != "sft" or not (setup.trains_base or adapts(setup)) or setup.shape.is_encoder_decoder:
        return None
    if parallel.tensor * parallel.pipeline > 1 or parallel.offload != "none" or setup.is_fused_backward:
        return None
    shape, models = setup.shape, _ftune().models
    model = models.ModelSpec(
        setup.model,
        shape.parameters,
        shape.width,
        shape.num_layers,
        shape.num_heads,
        shape.num_kv_heads,
        shape.ffn_width,
        shape.vocab_size,
        max(setup.max_seq_len, shape.max_len or 0),
        "fp32" if setup.weights == "fp32" else "bf16",
        shape.num_experts > 0,
        shape.num_experts or None,
        shape.experts_per_token or None,
    )
    four = setup.weights in ("nf4", "nf4-dq", "int4")
    config = models.TrainingConfig(
        model=setup.model,
        method=models.FineTuneMethod("full" if setup.trains_base else "qlora" if four else "lora"),
        quantization=models.Quantization("4bit" if four else "8bit" if setup.weights == "int8" else "none"),
        batch_size=setup.micro_batch_size,
        seq_length=setup.max_seq_len,
        gradient_checkpointing=setup.checkpointing != "none",
        optimizer=models.OptimizerType("adam_8bit" if setup.optimiser == "adamw8bit" else "adamw"),
        lora_rank=setup.rank,
        flash_attention=setup.attention != "eager",
        sharding=models.ShardingStrategy({"none": "none"}.get(parallel.sharding, f"zero_{parallel.sharding[-1]}")),
        num_gpus=parallel.shards,
    )
    return model, config


def ftune_memory(setup: Setup) -> float | None:
    """Its total of one device."""
    parts = _ftune_parts(setup)
    if parts is None:
        return None
    estimator = _ftune().memory.MemoryEstimator(*parts)
    if not setup.trains_base:
        targets = list(_ftune().models.LoRATarget)
        estimator.config.lora_target = min(targets, key=lambda target: _target_error(estimator, target, setup))
    return float(estimator.estimate().total_gb) * GIB


def _target_error(estimator: Any, target: Any, setup: Setup) -> float:
    estimator.config.lora_target = target
    return abs(float(estimator._compute_lora_params()) - setup.adapter_parameters)


def ftune_time(setup: Setup, work: Work) -> float | None:
    """Its hours for many tokens, as seconds of one micro-batch."""
    parts = _ftune_parts(setup)
    if parts is None:
        return None
    peak = work.peak / 1e12
    device = _ftune().models.GPUSpec("device", 80, peak, peak, peak * work.fp32_gain, 2000)
    many = 10**15  # its hours are rounded
    hours = (
        _ftune()
        .time.TimeEstimator(*parts)
        .estimate(device, dataset_size=many, epochs=1, num_gpus=num_devices(setup), avg_seq_length=1)
    )
    return float(hours.total_hours) * 3600 * work.reported_tokens / many


PEERS: tuple[Peer, ...] = (
    Peer("gpu_poor", "github.com/RahulSChand/gpu_poor", gpu_poor_memory, gpu_poor_time),
    Peer("accelerate estimate-memory", "github.com/huggingface/accelerate", accelerate_memory),
    Peer("LLaMA-Factory table", "github.com/hiyouga/LLaMA-Factory", llama_factory_memory),
    Peer("llm-analysis", "the package llm-analysis", llm_analysis_memory, llm_analysis_time, "llm-analysis"),
    Peer("ftune", "the package ftuneai", ftune_memory, ftune_time, "ftuneai"),
    Peer("6ND at 40 % of the peak", "arXiv 2001.08361", time=six_n_d),
)
