"""What a person asks the planner without a job: a model, a device and a training setup, each value optional."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from foretune.config.job import Strict
from foretune.errors import ConfigError
from foretune.plan.request_words import word_faults

__all__ = ["PlanRequest", "parameter_count", "plan_request"]

Positive = Annotated[int, Field(gt=0, le=10**12)]
Amount = Annotated[float, Field(gt=0.0, le=1e15)]
SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
USUAL_EXAMPLES = 1_000  # the usual floor of a task: requirements R049 and R086


class PlanRequest(Strict):
    """A question to the planner. What is None is taken as the framework's usual value, and stated in the answer."""

    base: str | None = Field(None, description="Model: a name of the catalogue, a folder or a Hugging Face id.")
    params: float | None = Field(None, gt=0.0, le=1e14, description="Parameters of the base, where it has no name.")
    method: str | None = Field(None, description="lora, qlora, full, prompt, classify, dpo or pretrain.")
    gpu: str | None = Field(None, description="Device, such as H100, A100-80 or RTX 4090.")
    num_gpus: Positive | None = Field(None, description="Number of devices.")
    num_examples: Positive | None = Field(None, description="Training examples.")
    tokens_per_example: Amount | None = Field(None, description="Mean tokens of an example.")
    epochs: Amount | None = Field(None, description="Passes over the examples.")
    max_seq_len: Positive | None = Field(None, description="Longest row in tokens.")
    micro_batch_size: Positive | None = Field(None, description="Rows per device and forward pass.")
    grad_accum: Positive | None = Field(None, description="Forward passes per update.")
    rank: Positive | None = Field(None, description="LoRA rank.")
    precision: Literal["bf16", "fp16", "fp32", "int8", "nf4", "fp8"] | None = Field(
        None, description="Format of weights and arithmetic."
    )
    optimizer_dtype: Literal["bf16", "fp32", "int8"] | None = Field(
        None, description="Format of AdamW's moments; fp32 with a master copy, int8 = 8-bit AdamW."
    )
    checkpointing: Literal["none", "full", "selective"] | None = Field(None, description="Activation checkpointing.")
    packing: bool | None = Field(None, description="Rows filled with many examples.")
    framework: str | None = Field(None, description="foretune, hf, trl, litgpt, axolotl, torchtune ...")
    parallelism: str | None = Field(None, description="ddp, fsdp, zero1, zero2, zero3, or tp8 pp2 dp4.")
    price_per_gpu_hour: float | None = Field(None, ge=0.0, le=1e6, description="Dollars for an hour of one device.")

    def as_row(self) -> dict[str, str]:
        """The request in the columns of the table of observed runs, so that both take the same way."""
        cells: dict[str, object] = {
            "model": self.base,
            "params_b": None if self.params is None else f"{self.params / 1e9:.12g}",
            "method": {"classify": "lora", "regress": "lora"}.get(self.method or "", self.method),
            "precision/quantization": self._precision(),
            "gpu": self.gpu,
            "n_gpus": self.num_gpus,
            "parallelism": self.parallelism,
            "seq_len": self.max_seq_len,
            "micro_batch": self.micro_batch_size,
            "grad_accum": self.grad_accum,
            "packing": None if self.packing is None else "yes" if self.packing else "no",
            "activation_checkpointing": self.checkpointing,
            "framework": self.framework,
            "examples": self.num_examples,
            "tokens_total": self._tokens_total(),
            "epochs": self._epochs(),
            "notes": self._notes(),
            "price_per_gpu_h": self.price_per_gpu_hour,
        }
        return {name: "" if value is None else str(value) for name, value in cells.items()}

    def _epochs(self) -> float | None:
        return self.epochs if self.epochs is not None or self.num_examples is None else 3.0

    def _tokens_total(self) -> float | None:
        if self.num_examples is None or self.tokens_per_example is None:
            return None
        return self.num_examples * self.tokens_per_example * (self._epochs() or 1.0)

    def _precision(self) -> str | None:
        if self.precision is None and self.optimizer_dtype is None:
            return None
        precision = self.precision or "bf16"
        if self.optimizer_dtype == "bf16":
            return f"{precision}-true"
        return f"{precision}-mixed" if self.optimizer_dtype == "fp32" else precision

    def _notes(self) -> str | None:
        notes = [] if self.rank is None else [f"lora_r={self.rank}"]
        if self.optimizer_dtype == "int8":
            notes.append("8-bit AdamW optimizer")
        return "; ".join(notes) or None


def parameter_count(text: str) -> float:
    """`7B`, `1.5b`, `350M` or a plain number as a number of parameters. Raises ConfigError."""
    found = re.fullmatch(r"\s*([0-9][0-9_,]*\.?[0-9]*(?:e[0-9]+)?)\s*([kmbt]?)\s*", text, re.IGNORECASE)
    value = float(found.group(1).replace(",", "").replace("_", "")) * SCALES[found.group(2).lower()] if found else 0.0
    if not 0 < value <= 1e14:
        raise ConfigError(f"--params {text}: expected a number of parameters above 0, at most 100T", fix="--params 7B")
    return value


def plan_request(**values: Any) -> PlanRequest:
    """A checked request. Raises ConfigError with every value that cannot be."""
    lines = list(word_faults(values))
    try:
        request = PlanRequest(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        lines += [_fault(item) for item in error.errors()]
    if lines:
        raise ConfigError("\n".join(lines), fix="foretune plan --help")
    return request


def _fault(item: Any) -> str:
    """What was given for which option, and what was expected."""
    option = "-".join(map(str, item["loc"])).replace("_", "-")
    return f"--{option} {item['input']}: {item['msg'].replace('Input should be', 'expected')}"
