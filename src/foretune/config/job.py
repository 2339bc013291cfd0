"""The job file as frozen, strict models: what a person sets, everything else is derived and shown."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AdvancedEvaluate",
    "AdvancedTrain",
    "DataConfig",
    "EvaluateConfig",
    "JobConfig",
    "Method",
    "PlanConfig",
    "Strict",
    "Task",
    "TrainConfig",
]

Method = Literal["lora", "full", "prompt", "classify", "pretrain"]
Task = Literal["auto", "chat", "classify", "text"]

# Strict: `true` and `"2"` are not numbers.
Number = Annotated[float, Field(strict=True)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]


class Strict(BaseModel):
    """Base of every config model: frozen, unknown keys are errors, defaults are checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(Strict):
    """Where the samples come from and how they are split."""

    path: str = Field("", description="File or folder of samples: JSONL, JSON, CSV/TSV, Parquet or text.")
    task: Task = Field("auto", description="What a sample is: chat messages, text with a class, or raw text.")
    system: str = Field("", description="System message put before every sample that has none.")
    validation_path: str = Field("", description="Validation samples, if they are not to be split off `path`.")
    test_path: str = Field("", description="Test samples, if they are not to be split off `path`.")
    input_field: str = Field("", description="Column or key of the input, where names are not the usual ones.")
    target_field: str = Field("", description="Column or key of the expected output or class.")
    group_field: str = Field("", description="Key whose equal values stay in one split (customer, document).")
    max_rows: Count = Field(0, description="Use only the first rows of `path`; 0 = all.")
    validation_fraction: Fraction = Field(0.1, description="Share of samples for validation.")
    test_fraction: Fraction = Field(0.1, description="Share of samples for the sealed test split.")


class AdvancedTrain(Strict):
    """Training settings that most people never touch."""

    alpha: Number = Field(0.0, ge=0.0, description="LoRA alpha; 0 = 2 x rank.")
    dropout: Fraction = Field(0.05, description="LoRA dropout.")
    target_modules: tuple[str, ...] = Field(
        (), description="Modules that get adapters; empty = the family's usual two, `all-linear` = all."
    )
    num_prompt_tokens: Positive = Field(16, description="Soft-prompt length for method prompt.")
    micro_batch_size: Count = Field(0, description="Samples per forward pass; 0 = derived from memory.")
    weight_decay: Number = Field(0.01, ge=0.0, description="AdamW weight decay.")
    warmup_fraction: Fraction = Field(0.06, description="Share of steps of linear warm-up, at most 100 steps.")
    max_grad_norm: Number = Field(1.0, ge=0.0, description="Gradient clipping; 0 = off.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after warm-up.")
    max_steps: Count = Field(0, description="Optimizer steps; 0 = from epochs.")
    eval_every: Count = Field(0, description="Steps between validations; 0 = derived (about 8 a run).")
    save_every: Count = Field(0, description="Steps between checkpoints; 0 = at every validation.")
    keep_checkpoints: Positive = Field(3, description="Checkpoints kept on disk.")
    patience: Count = Field(3, description="Stop after this many validations without improvement; 0 = never.")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="Arithmetic; auto = by hardware.")
    train_on: Literal["assistant", "all"] = Field("assistant", description="Which tokens carry loss.")
    init: Literal["base", "random"] = Field("base", description="random: from scratch, the base gives only its shape.")
    num_threads: Count = Field(0, description="CPU threads; 0 = all cores.")


class TrainConfig(Strict):
    """How to fit the model."""

    method: Method = Field("lora", description="lora, full, prompt (soft prompt), classify (head) or pretrain.")
    epochs: Number = Field(3.0, gt=0.0, description="Passes over the training samples.")
    learning_rate: Number = Field(0.0, ge=0.0, description="Peak learning rate; 0 = by method.")
    global_batch_size: Positive = Field(16, description="Samples per optimizer update.")
    max_seq_len: Count = Field(0, description="Longest sample in tokens; 0 = what data and model allow.")
    rank: Positive = Field(16, description="LoRA rank.")
    advanced: AdvancedTrain = Field(default_factory=AdvancedTrain)


class AdvancedEvaluate(Strict):
    """Evaluation settings that most people never touch."""

    batch_size: Positive = Field(32, description="Samples generated at once.")
    max_test_samples: Count = Field(0, description="Test samples used; 0 = all.")
    max_validation_samples: Positive = Field(64, description="Validation samples used to choose the prompt.")
    margin: Fraction = Field(0.02, description="Smallest difference that matters to you.")
    probe_samples: Count = Field(40, description="Samples per general skill for the forgetting check; 0 = off.")


class EvaluateConfig(Strict):
    """How the result is judged; fixed before training."""

    primary_metric: str = Field("", description="Metric that decides; empty = by task.")
    max_new_tokens: Count = Field(0, description="Longest answer; 0 = longest training target.")
    few_shot: tuple[Count, ...] = Field((5, 8), description="Numbers of examples tried in the base model's prompt.")
    instructions: tuple[str, ...] = Field((), description="Extra system prompts tried for the base model.")
    json_schema: str = Field("", description="JSON Schema file that answers must satisfy.")
    scorers: tuple[str, ...] = Field((), description="Further metrics, or your own as `package.module:function`.")
    advanced: AdvancedEvaluate = Field(default_factory=AdvancedEvaluate)


class PlanConfig(Strict):
    """Budget and price."""

    price_per_hour_usd: Number = Field(0.0, ge=0.0, description="What an hour of this machine costs.")
    max_cost_usd: Number = Field(0.0, ge=0.0, description="Stop with a checkpoint beyond this; 0 = no limit.")
    max_hours: Number = Field(0.0, ge=0.0, description="Stop with a checkpoint beyond this; 0 = no limit.")


class JobConfig(Strict):
    """One fine-tuning job, as written in `job.toml`."""

    name: str = Field("job", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Short name; begins the run id.")
    base: str = Field("pebble", description="Base model: pebble, a local folder or a Hugging Face id.")
    seed: Count = Field(0, description="Seed of every random choice.")
    data: DataConfig = Field(default_factory=DataConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    plan: PlanConfig = Field(default_factory=PlanConfig)

    @model_validator(mode="after")
    def _splits_leave_training_data(self) -> JobConfig:
        held_out = self.data.validation_fraction + self.data.test_fraction
        if held_out >= 1.0:
            raise ValueError(f"validation_fraction + test_fraction = {held_out:g} leaves no training data; keep it < 1")
        return self
