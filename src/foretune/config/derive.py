"""Settings that follow from others: steps, batches, rates and cadences, each with its reason and its warnings."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Generic, Literal, TypeVar

from foretune.config.job import LORA_METHODS, JobConfig, Method
from foretune.errors import ConfigError

__all__ = [
    "BATCH_FRACTION",
    "LEARNING_RATES",
    "SMALL_BASE_PARAMETERS",
    "USUAL_LEARNING_RATES",
    "Derived",
    "DeviceKind",
    "calmer_rate",
    "derive",
    "suggest_batch_size",
    "suggest_epochs",
    "suggest_learning_rate",
    "usual_range_warnings",
]

T = TypeVar("T")
Precision = Literal["bf16", "fp16", "fp32"]
DeviceKind = Literal["cpu", "cuda"]

LEARNING_RATES: dict[Method, float] = {
    "lora": 2e-4,
    "full": 2e-5,
    "prompt": 3e-2,
    "prefix": 1e-2,
    "classify": 2e-4,
    "regress": 2e-4,
    "dpo": 1e-5,
    "orpo": 5e-5,
    "kto": 1e-5,
    "pretrain": 1e-3,
}
USUAL_LEARNING_RATES: dict[Method, tuple[float, float]] = {
    "lora": (1e-4, 3e-4),
    "full": (1e-5, 5e-5),
    "prompt": (1e-3, 3e-1),
    "prefix": (1e-4, 1e-1),
    "classify": (1e-5, 1e-3),
    "regress": (1e-5, 1e-3),
    "dpo": (1e-6, 5e-5),
    "orpo": (5e-6, 3e-4),
    "kto": (1e-6, 5e-5),
    "pretrain": (1e-4, 5e-3),
}
# Bases below this learn at rates at which larger ones fall apart; the rates are those of the templates on pebble.
SMALL_BASE_PARAMETERS = 50_000_000
SMALL_BASE_RATES: dict[Method, float] = {"lora": 3e-3, "classify": 1e-3, "regress": 1e-3}
# Going on with the pretraining of a larger base, not from scratch: published runs re-warm to 3e-4 at 0.4 B and 1.2e-4
# at 10 B parameters (Ibrahim et al. 2024, arXiv 2403.08763).
CONTINUED_RATE = 1e-4
SMALL_BASE_USUAL_RATES: dict[Method, tuple[float, float]] = {"lora": (1e-4, 1e-2)}
USUAL_BATCH = (16, 64)
BATCH_FRACTION = 0.002
USUAL_RANK = (8, 32)
MANY_EPOCHS = 5.0
MOST_CADENCE_STEPS = 500
MOST_WARMUP_STEPS = 100
VALIDATIONS_PER_RUN = 8
LEAST_BF16_PARAMETERS = 50_000_000  # on a CPU; a smaller base trains in minutes either way
MICRO_BATCH_TOKENS: dict[DeviceKind, int] = {"cpu": 4096, "cuda": 16_384}
MOST_MICRO_BATCH: dict[DeviceKind, int] = {"cpu": 16, "cuda": 64}


@dataclass(frozen=True)
class Derived:
    """What training really uses. `reasons` says of each value why; `warnings` what is unusual or was overridden.

    Steps are optimizer updates. `micro_batch_size * grad_accum_steps` is `global_batch_size`, always.
    """

    num_steps: int
    steps_per_epoch: int
    num_epochs: float
    global_batch_size: int
    micro_batch_size: int
    grad_accum_steps: int
    max_seq_len: int
    learning_rate: float
    warmup_steps: int
    eval_every: int
    save_every: int
    alpha: float
    precision: Precision
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def explained(self) -> dict[str, str]:
        """Each setting with its value and why, as one line: `micro_batch_size` -> `8 (…)`."""
        values = asdict(self)
        return {
            name: f"{values[name]:g} ({why})" if isinstance(values[name], float) else f"{values[name]} ({why})"
            for name, why in self.reasons.items()
        }


@dataclass(frozen=True)
class _Choice(Generic[T]):
    """A value, why it was taken, and what the user should hear about it."""

    value: T
    reason: str
    warning: str = ""


def derive(
    job: JobConfig,
    *,
    num_train_samples: int,
    longest_sample_tokens: int,
    model_max_len: int | None,
    device: DeviceKind = "cpu",
    has_bf16: bool = True,
    has_fp16: bool = False,
    frozen_flat_parameters: int = 0,
) -> Derived:
    """Every derived setting of a job.

    `num_train_samples` counts the samples that training sees, `longest_sample_tokens` is the longest of them,
    `model_max_len` the positions the base model has (None = no limit known), `has_bf16` whether the device computes
    bf16 fast (CUDA: compute capability 8.0 on), `has_fp16` whether fp16 (7.0 on), `frozen_flat_parameters` the base
    weights that our own decoder holds frozen (0: it does not run). Raises ConfigError for fp16 on a processor.
    """
    whole = job.train.global_batch_size
    steps_per_epoch = max(1, math.ceil(num_train_samples / whole))
    length = _max_seq_len(job, longest_sample_tokens, model_max_len)
    micro = _micro_batch_size(job, length.value, device)
    accum = _Choice(whole // micro.value, f"global batch {whole} = {micro.value} x {whole // micro.value}")
    steps = _num_steps(job, steps_per_epoch)
    rate, warmup = _learning_rate(job), _warmup_steps(job, steps.value)
    eval_every = _eval_every(job, steps.value)
    save_every = _save_every(job, eval_every.value)
    alpha, precision = _alpha(job), _precision(job, device, has_bf16, has_fp16, frozen_flat_parameters)
    reasons = {
        "num_steps": steps.reason,
        "max_seq_len": length.reason,
        "micro_batch_size": micro.reason,
        "grad_accum_steps": accum.reason,
        "learning_rate": rate.reason,
        "warmup_steps": warmup.reason,
        "eval_every": eval_every.reason,
        "save_every": save_every.reason,
        "alpha": alpha.reason,
        "precision": precision.reason,
    }
    overridden = tuple(warning for warning in (length.warning, micro.warning) if warning)
    return Derived(
        num_steps=steps.value,
        steps_per_epoch=steps_per_epoch,
        num_epochs=steps.value / steps_per_epoch,
        global_batch_size=whole,
        micro_batch_size=micro.value,
        grad_accum_steps=accum.value,
        max_seq_len=length.value,
        learning_rate=rate.value,
        warmup_steps=warmup.value,
        eval_every=eval_every.value,
        save_every=save_every.value,
        alpha=alpha.value,
        precision=precision.value,
        reasons=reasons,
        warnings=(*overridden, *usual_range_warnings(job, num_train_samples, frozen_flat_parameters)),
    )


def suggest_epochs(num_train_samples: int, base_parameters: int = 0) -> int:
    """Passes over the data that usually suffice: 5 below 500 samples, 4 to 1,000, 3 below 10,000, then 2, then 1.

    A base below 50 M parameters (`base_parameters`; 0: unknown) is still learning after 4: it takes 5 to 1,000.
    """
    small_to = 1001 if 0 < base_parameters < SMALL_BASE_PARAMETERS else 0
    for most, epochs in ((max(500, small_to), 5), (1001, 4), (10_000, 3), (50_000, 2)):
        if num_train_samples < most:
            return epochs
    return 1


def suggest_batch_size(num_train_samples: int) -> int:
    """Samples an update: 0.2 % of the training samples as a power of two, within the usual 16 to 64.

    Larger batches suit larger data; the share is the one that OpenAI's first fine-tuning API took where none was set
    (its reference of `batch_size`, capped at 256).
    """
    low, high = USUAL_BATCH
    wanted = BATCH_FRACTION * num_train_samples
    return low if wanted < low else min(high, 2 ** math.floor(math.log2(wanted)))


def suggest_learning_rate(method: Method, base_parameters: int) -> float:
    """The usual peak rate of a method for a base of so many parameters (0: unknown).

    Bases below 50 M parameters take more, as the templates on pebble do; of larger ones the pretraining goes on gently.
    """
    if 0 < base_parameters < SMALL_BASE_PARAMETERS:
        return SMALL_BASE_RATES.get(method, LEARNING_RATES[method])
    return CONTINUED_RATE if method == "pretrain" else LEARNING_RATES[method]


def usual_range_warnings(job: JobConfig, num_train_samples: int, base_parameters: int = 0) -> tuple[str, ...]:
    """One line for each setting outside the range that usually works, with the range and the risk.

    `base_parameters`: those of the frozen base, where they are known; a small one takes higher rates.
    """
    train = job.train
    warnings = [_rate_warning(job, base_parameters), _epochs_warning(job, num_train_samples)]
    low, high = USUAL_BATCH
    if not low <= train.global_batch_size <= high:
        warnings.append(
            f"global_batch_size {train.global_batch_size} is outside the usual {low}-{high}: "
            "smaller is noisier, larger gives fewer updates for the same data"
        )
    low, high = USUAL_RANK
    if train.method in LORA_METHODS and not low <= train.rank <= high:
        warnings.append(f"rank {train.rank} is outside the usual {low}-{high} for most tasks")
    return tuple(warning for warning in warnings if warning)


def calmer_rate(method: str, peak: float) -> float:
    """The rate to go on with where `peak` diverged: a tenth of it, or the usual highest where that is unusual too."""
    usual: dict[str, float] = {name: high for name, (_, high) in USUAL_LEARNING_RATES.items()}
    small: dict[str, float] = {name: high for name, (_, high) in SMALL_BASE_USUAL_RATES.items()}
    tenth = float(f"{peak / 10:.1g}")
    return tenth if tenth <= (usual | small).get(method, peak) else usual[method]


def _rate_warning(job: JobConfig, base_parameters: int) -> str:
    rate = job.train.learning_rate
    usual = USUAL_LEARNING_RATES[job.train.method]
    is_small = 0 < base_parameters < SMALL_BASE_PARAMETERS
    low, high = SMALL_BASE_USUAL_RATES.get(job.train.method, usual) if is_small else usual
    if not rate or low <= rate <= high:
        return ""
    risk = "the loss may explode" if rate > high else "the loss may barely move"
    return f"learning_rate {rate:g} is outside the usual {low:g} to {high:g} for method {job.train.method}: {risk}"


def _epochs_warning(job: JobConfig, num_train_samples: int) -> str:
    train = job.train
    if train.method == "pretrain" or train.advanced.max_steps:
        return ""
    suggested = suggest_epochs(num_train_samples)
    if train.epochs > MANY_EPOCHS:
        return f"{train.epochs:g} epochs: more than 5 usually overfits; {suggested} usually suffice for this data"
    if num_train_samples >= 10_000 and train.epochs > suggested:
        return f"{train.epochs:g} epochs over {num_train_samples:,} samples: {suggested} usually suffice"
    return ""


def _max_seq_len(job: JobConfig, longest: int, model_max_len: int | None) -> _Choice[int]:
    prompt_tokens = job.train.advanced.num_prompt_tokens if job.train.method in ("prompt", "prefix") else 0
    room = max(1, model_max_len - prompt_tokens) if model_max_len else None
    wanted = job.train.max_seq_len
    if wanted and room is not None and wanted > room:
        said = f"max_seq_len {wanted} is more than the model's {room} positions: {room} it is"
        return _Choice(room, "the model has no more positions", said)
    if wanted:
        return _Choice(wanted, "set in the job")
    if room is not None and longest > room:
        warning = f"the longest sample has {longest} tokens, the model takes {room}: longer samples are cut or left out"
        return _Choice(room, "the model has no more positions", warning)
    return _Choice(max(1, longest), "the longest training sample")


def _micro_batch_size(job: JobConfig, max_seq_len: int, device: DeviceKind) -> _Choice[int]:
    whole = job.train.global_batch_size
    wanted = job.train.advanced.micro_batch_size
    if wanted:
        size = _largest_divisor(whole, wanted)
        warning = f"micro_batch_size {wanted} does not divide global_batch_size {whole}: {size} is used"
        return _Choice(size, "set in the job", warning if size != wanted else "")
    tokens = MICRO_BATCH_TOKENS[device]
    size = _largest_divisor(whole, min(MOST_MICRO_BATCH[device], max(1, tokens // max_seq_len)))
    return _Choice(size, f"largest divisor of {whole} that keeps a pass within {tokens} tokens on {device}")


def _largest_divisor(whole: int, most: int) -> int:
    return next(size for size in range(min(most, whole), 0, -1) if whole % size == 0)


def _num_steps(job: JobConfig, steps_per_epoch: int) -> _Choice[int]:
    if job.train.advanced.max_steps:
        return _Choice(job.train.advanced.max_steps, "max_steps of the job")
    steps = max(1, math.ceil(round(job.train.epochs * steps_per_epoch, 6)))
    return _Choice(steps, f"{job.train.epochs:g} epochs of {steps_per_epoch} steps")


def _learning_rate(job: JobConfig) -> _Choice[float]:
    if job.train.learning_rate:
        return _Choice(job.train.learning_rate, "set in the job")
    method = job.train.method
    scratch = "" if method == "pretrain" else "; far below training from scratch, so that the model keeps what it knows"
    return _Choice(LEARNING_RATES[method], f"default of method {method}{scratch}")


def _warmup_steps(job: JobConfig, num_steps: int) -> _Choice[int]:
    fraction = job.train.advanced.warmup_fraction
    least = 1 if fraction > 0 and num_steps >= 10 else 0
    steps = min(MOST_WARMUP_STEPS, max(least, math.floor(fraction * num_steps)))
    return _Choice(steps, f"{fraction:.0%} of {num_steps} steps, at most {MOST_WARMUP_STEPS}")


def _eval_every(job: JobConfig, num_steps: int) -> _Choice[int]:
    if job.train.advanced.eval_every:
        return _Choice(job.train.advanced.eval_every, "set in the job")
    steps = min(MOST_CADENCE_STEPS, max(1, math.ceil(num_steps / VALIDATIONS_PER_RUN)))
    return _Choice(steps, f"about {VALIDATIONS_PER_RUN} validations a run, at most {MOST_CADENCE_STEPS} steps apart")


def _save_every(job: JobConfig, eval_every: int) -> _Choice[int]:
    if job.train.advanced.save_every:
        return _Choice(job.train.advanced.save_every, "set in the job")
    return _Choice(eval_every, "at every validation")


def _alpha(job: JobConfig) -> _Choice[float]:
    if job.train.advanced.alpha:
        return _Choice(job.train.advanced.alpha, "set in the job")
    return _Choice(2.0 * job.train.rank, "2 x rank")


def _precision(job: JobConfig, device: DeviceKind, has_bf16: bool, has_fp16: bool, frozen: int) -> _Choice[Precision]:
    wanted = job.train.advanced.precision
    if wanted == "fp16" and device == "cpu":
        raise ConfigError(
            "precision fp16: a processor computes it slowly, and it loses small gradients; expected bf16 or fp32 here",
            fix='train.advanced.precision = "auto"',
        )
    if wanted != "auto":
        return _Choice(wanted, "set in the job")
    if device == "cuda" and not has_bf16 and has_fp16:
        return _Choice("fp16", "this accelerator computes fp16 fast and bf16 not; losses are scaled")
    if device == "cuda" and not has_bf16:
        return _Choice("fp32", "this accelerator has no fast bf16")
    if device == "cuda":
        return _Choice("bf16", "this accelerator computes bf16 fastest")
    if has_bf16 and frozen >= LEAST_BF16_PARAMETERS:
        return _Choice(
            "bf16", f"this processor computes bf16 several times as fast; {frozen / 1e6:.0f} M frozen weights"
        )
    return _Choice(
        "fp32", "exact, and a small base takes little time in it" if has_bf16 else "this processor's fastest"
    )
