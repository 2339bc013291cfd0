"""The job file as frozen, strict models: what a person sets, everything else is derived and shown."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "LORA_METHODS",
    "PREFERENCE_METHODS",
    "WHOLE_METHODS",
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

Method = Literal["lora", "full", "prompt", "prefix", "classify", "regress", "dpo", "orpo", "kto", "pretrain"]
FlatTechnique = Literal[
    "merged_products",
    "joined_ranks",
    "packing",
    "shared_prefix",
    "chunked_head",
    "pruned_last_layer",
    "cached_trunk",
    "kernels",
]
PREFERENCE_METHODS: tuple[Method, ...] = ("dpo", "orpo", "kto")
LORA_METHODS: tuple[Method, ...] = ("lora", "classify", "regress", *PREFERENCE_METHODS)
WHOLE_METHODS: tuple[Method, ...] = ("full", "pretrain")
Task = Literal["auto", "chat", "classify", "text", "preference"]

LANGUAGE = re.compile(r"[a-z]{2,3}(?:-\w+)?(?::(?:0(?:\.\d+)?|1(?:\.0+)?|\.\d+))?")

# Strict: `true` and `"2"` are not numbers.
Number = Annotated[float, Field(strict=True)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]


class Strict(BaseModel):
    """Base of every config model: frozen, unknown keys are errors, defaults are checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class AdvancedData(Strict):
    """Data settings that most people never touch."""

    on_fault: Literal["stop", "reject"] = Field(
        "stop", description="Faulty rows: stop, or put them into rejected.jsonl and go on."
    )
    train_until: str = Field("", description="Date at which training rows end; empty = by the fractions.")
    validate_until: str = Field("", description="Date at which validation ends and test begins; empty = by fractions.")
    noisy_test: Fraction = Field(
        0.0, description="Typing errors in a twin of the test split, scored beside it: 0.1 = in a tenth of the words."
    )
    outdated_terms: str = Field(
        "", description="File of outdated terms, `old => new` a line; rows with them are found."
    )
    mix_fraction: Fraction = Field(0.15, description="Share of general data in training, usually 0.1 to 0.2.")
    fewest_test: Count = Field(200, description="Test rows at least, if 60 % stay for training; 0 = by fraction.")
    use: Literal["commercial", "research"] = Field("commercial", description="What it is for; mixing checks licences.")


class DataConfig(Strict):
    """Where the samples come from and how they are split."""

    path: str = Field("", description="File or folder of samples, or a data set of the hub: hf:owner/name.")
    task: Task = Field("auto", description="What a sample is: chat messages, a text with a class, text, a preference.")
    system: str = Field("", description="System message put before every sample that has none.")
    validation_path: str = Field("", description="Validation samples, if they are not to be split off `path`.")
    test_path: str = Field("", description="Test samples, if they are not to be split off `path`.")
    input_field: str = Field("", description="Column or key of the input, where names are not the usual ones.")
    target_field: str = Field("", description="Column or key of the expected output or class.")
    group_field: str = Field("", description="Key whose equal values stay in one split (customer, document).")
    max_rows: Count = Field(0, description="Use only the first rows of `path`; 0 = all.")
    validation_fraction: Fraction = Field(0.1, description="Share of samples for validation.")
    test_fraction: Fraction = Field(0.1, description="Share of samples for the sealed test split.")
    time_field: str = Field("", description="Key with the date of a row; splits by time. `auto` looks for it.")
    languages: tuple[str, ...] = Field((), description="Languages of production, with shares if known: en:0.7, de:0.3.")
    production_path: str = Field("", description="Sample of production queries, or a request log, to compare with.")
    mix_path: str = Field("", description="General data to mix into training against forgetting.")
    advanced: AdvancedData = Field(default_factory=AdvancedData)

    @field_validator("languages")
    @classmethod
    def _languages_are_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = next((text for text in value if not LANGUAGE.fullmatch(text)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no language; write ISO codes, with a share if it is known: en, de:0.3")
        return value

    @model_validator(mode="after")
    def _cuts_have_a_time_field(self) -> DataConfig:
        cuts = [name for name in ("train_until", "validate_until") if getattr(self.advanced, name)]
        if cuts and not self.time_field:
            raise ValueError(f"advanced.{cuts[0]} needs time_field, the key with a row's date; `auto` looks for it")
        if self.time_field and (self.validation_path or self.test_path):
            raise ValueError("time_field splits `path` by time; leave validation_path and test_path empty")
        return self

    @property
    def language_shares(self) -> dict[str, float]:
        """Declared languages with their share of production, 0 where none is given."""
        parts = (text.partition(":") for text in self.languages)
        return {code: float(share or 0) for code, _, share in parts}


class AdvancedTrain(Strict):
    """Training settings that most people never touch."""

    alpha: Number = Field(0.0, ge=0.0, description="LoRA alpha; 0 = 2 x rank.")
    dropout: Fraction = Field(0.05, description="LoRA dropout; of dpo, orpo and kto 0 where the job names none.")
    target_modules: tuple[str, ...] = Field(
        (), description="Modules that get adapters; empty = the family's usual two, `all-linear` = all."
    )
    top_layers: Count = Field(
        0, description="Adapters in the last so many blocks only; what is below is computed once. 0 = in all."
    )
    lora_variant: Literal["lora", "rslora", "dora"] = Field(
        "lora", description="rslora: scale alpha / sqrt(rank); dora: direction and magnitude apart."
    )
    quantise_base: Literal["none", "8bit", "4bit"] = Field("none", description="Bits of the frozen base (QLoRA).")
    base_adapter: str = Field("", description="Start from this earlier adapter: a run or a folder.")
    beta: Number = Field(0.1, gt=0.0, description="Strength of a preference: the margin that dpo, orpo, kto ask for.")
    label_smoothing: Fraction = Field(0.0, lt=0.5, description="Share of dpo pairs that may be the wrong way round.")
    num_prompt_tokens: Positive = Field(16, description="Length of the soft prompt or prefix.")
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
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="Arithmetic; auto = by hardware. fp16: GPUs without bf16, with loss scaling."
    )
    train_on: Literal["assistant", "all"] = Field("assistant", description="Which tokens carry loss.")
    recompute: Literal["auto", "always", "never"] = Field(
        "auto", description="Activations again in the backward pass: slower, less memory; auto = where it must be."
    )
    init: Literal["base", "random"] = Field("base", description="random: from scratch, the base gives only its shape.")
    num_threads: Count = Field(0, description="CPU threads; 0 = all cores.")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="Several processes: ddp, each has the whole model; fsdp, each a shard of it."
    )
    engine: Literal["auto", "padded"] = Field("auto", description="auto: flat tokens where the model allows it.")
    without: tuple[FlatTechnique, ...] = Field(
        (), description="Techniques of the flat engine to switch off; the gradient stays the same."
    )


class TrainConfig(Strict):
    """How to fit the model."""

    method: Method = Field(
        "lora",
        description="lora, full, prompt, prefix, classify, regress, dpo, orpo, kto or pretrain; qlora = lora, 4 bits.",
    )
    epochs: Number = Field(3.0, gt=0.0, description="Passes over the training samples.")
    learning_rate: Number = Field(0.0, ge=0.0, description="Peak learning rate; 0 = by method.")
    global_batch_size: Positive = Field(16, description="Samples per optimizer update.")
    max_seq_len: Count = Field(0, description="Longest sample in tokens; 0 = what data and model allow.")
    rank: Positive = Field(16, description="LoRA rank.")
    advanced: AdvancedTrain = Field(default_factory=AdvancedTrain)

    @model_validator(mode="before")
    @classmethod
    def _qlora_is_lora_on_four_bits(cls, values: Any) -> Any:
        """`method = "qlora"` is `method = "lora"` with `advanced.quantise_base = "4bit"`, unless the job names bits."""
        if not isinstance(values, dict) or values.get("method") != "qlora":
            return values
        advanced = values.get("advanced", {})
        if isinstance(advanced, dict):
            advanced = {"quantise_base": "4bit", **advanced}
        return {**values, "method": "lora", "advanced": advanced}

    @model_validator(mode="before")
    @classmethod
    def _preferences_are_compared_without_dropout(cls, values: Any) -> Any:
        """dpo, orpo, kto: `advanced.dropout` 0 unless named, so that only what was learned moves a margin (as TRL)."""
        if not isinstance(values, dict) or values.get("method") not in PREFERENCE_METHODS:
            return values
        advanced = values.get("advanced", {})
        return {**values, "advanced": {"dropout": 0.0, **advanced}} if isinstance(advanced, dict) else values

    @model_validator(mode="after")
    def _method_fits_what_is_trained(self) -> TrainConfig:
        advanced = self.advanced
        if advanced.quantise_base != "none" and self.method in WHOLE_METHODS:
            raise ValueError(
                f"method {self.method} trains every weight, and quantised weights are not trained; "
                'set advanced.quantise_base = "none", or method = "lora"'
            )
        if advanced.quantise_base != "none" and advanced.init == "random":
            raise ValueError('advanced.init = "random" leaves nothing to quantise; set advanced.quantise_base = "none"')
        if advanced.top_layers and self.method not in LORA_METHODS:
            raise ValueError(
                f"advanced.top_layers chooses the blocks of a LoRA adapter, and method {self.method} trains none; "
                'set advanced.top_layers = 0, or method = "lora"'
            )
        if advanced.base_adapter and self.method not in ("lora", *PREFERENCE_METHODS):
            raise ValueError(
                f"advanced.base_adapter starts a LoRA adapter, and method {self.method} trains none on generated "
                'answers; use method = "lora", "dpo", "orpo" or "kto"'
            )
        return self


class AdvancedEvaluate(Strict):
    """Evaluation settings that most people never touch."""

    batch_size: Positive = Field(32, description="Samples generated at once.")
    max_test_samples: Count = Field(0, description="Test samples used; 0 = all.")
    max_validation_samples: Positive = Field(64, description="Validation samples used to choose the prompt.")
    margin: Fraction = Field(0.02, description="Smallest difference that matters to you.")
    guards: tuple[str, ...] = Field((), description="Metrics that a gain must not cost, and how much: json_valid=0.02.")
    probe_samples: Count = Field(40, description="Samples per general skill for the forgetting check; 0 = off.")
    quantised: tuple[Literal["8bit", "4bit"], ...] = Field(
        (), description="Also the fine-tuned model in 8bit or 4bit, against the gates of 5 % and 10 % loss."
    )
    endpoint_keys: tuple[str, ...] = Field(
        ("OPENAI_API_KEY",), description="Environment variable with the endpoints' key, or HOST=NAME for one of them."
    )
    endpoint_prices: tuple[str, ...] = Field(
        (), description="Dollars per million tokens read and written: MODEL=2.5,10."
    )
    timeout_seconds: Positive = Field(120, description="Longest wait for one answer of an endpoint.")
    judge_samples: Count = Field(100, description="Test samples that the judge compares, each in both orders.")
    rubric: tuple[str, ...] = Field(
        ("helpfulness", "policy", "facts", "tone"), description="What judge and raters score from 1 to 5."
    )
    embedder: str = Field("auto", description="Embeddings of the similarity: auto, tfidf, a folder or URL#model.")
    cross_fit: Count = Field(0, description="For few data: train on all but each of so many parts; 0 = off.")
    optimise_prompt: Count = Field(0, description="Prompts proposed for the base beyond the usual ones; 0 = off.")
    run_code: bool = Field(False, description="Allow scorers that run the answers as Python, in a limited process.")


class EvaluateConfig(Strict):
    """How the result is judged; fixed before training."""

    primary_metric: str = Field("", description="Metric that decides; empty = by task.")
    max_new_tokens: Count = Field(0, description="Longest answer; 0 = longest training target.")
    few_shot: tuple[Count, ...] = Field((5, 8), description="Numbers of examples tried in the base model's prompt.")
    instructions: tuple[str, ...] = Field((), description="Extra system prompts tried for the base model.")
    json_schema: str = Field("", description="JSON Schema file that answers must satisfy.")
    scorers: tuple[str, ...] = Field((), description="Further metrics, or your own as `package.module:function`.")
    endpoints: tuple[str, ...] = Field((), description="Hosted models to compare with: https://host/v1#model.")
    documents: str = Field("", description="File or folder that a retrieval baseline of the base model looks up.")
    judge: str = Field("", description="Model that judges pairs of answers, as URL#model; it never decides.")
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
    parent: str = Field("", description="Run that this job was made from; `foretune runs lineage` shows the line.")
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
