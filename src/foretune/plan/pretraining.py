"""Pretraining: tokens, compute-optimal size, GPUs, days, dollars, failures, checkpoints and the size of the data."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from typing import NamedTuple

from pydantic import Field

from foretune.config import Strict
from foretune.errors import ConfigError
from foretune.records.plan import Estimate
from foretune.units import show_bytes, show_count, show_usd

__all__ = [
    "STAGES",
    "DataPipeline",
    "PretrainingJob",
    "PretrainingPlan",
    "Reliability",
    "Split",
    "Stage",
    "TwoStages",
    "checkpoint_interval_seconds",
    "compute_days",
    "compute_optimal",
    "data_pipeline",
    "equivalent_compute",
    "gpu_hours",
    "lost_fraction",
    "optimal_tokens",
    "plan_pretraining",
    "predicted_loss",
    "training_flops",
    "two_stages",
    "usd_per_gpu_hour",
]

# Hoffmann et al. 2022 (arXiv 2203.15556): Chinchilla, 70B parameters and 1.4T tokens.
TOKENS_PER_PARAMETER = 20.0
# Hoffmann's parametric loss E + A/N^a + B/D^b, refitted by Besiroglu et al. 2024 (arXiv 2404.10102).
LOSS_E, LOSS_A, LOSS_B, LOSS_ALPHA, LOSS_BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
# Share of the peak that 6ND reaches when nothing was measured; 40 % is the usual rule.
MFU = Estimate(low=0.30, expected=0.40, high=0.50)
# GPU-hours between failures. Llama 3 (arXiv 2407.21783): 419 unexpected interruptions of 16,384 GPUs in 54 days, one
# per 50,700. Kokolis et al. 2024 (arXiv 2410.21680): one per 7.9 h of jobs of 1,024 GPUs on one cluster, and on the
# better one 2.34 failures per 1,000 days of a node of eight.
GPU_HOURS_PER_FAILURE = Estimate(low=8_100, expected=50_700, high=82_000)
CHECKPOINT_BYTES_PER_PARAMETER = 14  # bf16 weights, fp32 copy, two fp32 Adam moments
STATE_BYTES_PER_PARAMETER = 18  # the same and fp32 gradients
STATE_SHARE_OF_MEMORY = 0.7  # the rest is for activations
CHECKPOINT_GB_PER_SECOND_PER_NODE, CHECKPOINT_GB_PER_SECOND_AT_MOST = 1.0, 200.0  # assumed
GPUS_PER_NODE = 8
TEXT_BYTES_PER_TOKEN = 4.0  # English with a vocabulary of 32,000 to 128,000
# Penedo et al. 2023 (arXiv 2306.01116): close to nine tenths of the crawled documents fall away
# (from memory, not re-read).
KEPT_FRACTION = 0.1
MAX_GOOD_EPOCHS = 4.0  # Muennighoff et al. 2023 (arXiv 2305.16264): up to four epochs are nearly as good as new text
FILTER_BYTES_PER_SECOND, TOKENISE_BYTES_PER_SECOND = 0.3e6, 1e6  # of one CPU core; assumed


class Stage(NamedTuple):
    """One stage on the way to a model, with what has to be there before the next one begins."""

    name: str
    what: str
    done_when: str


class Split(Strict):
    """How a compute budget is best divided: parameters and tokens."""

    parameters: float
    tokens: float


class Reliability(Strict):
    """What failures cost: hours between two of them for the whole job, and what checkpoints do about it."""

    failures: Estimate
    hours_between_failures: float
    checkpoint_bytes: float
    checkpoint_seconds: float
    checkpoint_interval_seconds: float
    lost_fraction: float


class DataPipeline(Strict):
    """Sizes in bytes, work in core-hours, and what the loader has to read while training."""

    tokens: float
    clean_text_bytes: float
    raw_text_bytes: float
    tokenised_bytes: float
    core_hours: float
    loader_bytes_per_second: float


class TwoStages(Strict):
    """Pretraining beside fine-tuning: the same figures of both, and how many times dearer the first is."""

    pretraining_gpu_hours: float
    pretraining_days: float
    pretraining_usd: float
    tuning_gpu_hours: float
    tuning_days: float
    tuning_usd: float
    cost_ratio: float


STAGES: tuple[Stage, ...] = (
    Stage("collection", "gather, filter, deduplicate, tokenise text; settle its licence", "a held-out part is sealed"),
    Stage(
        "infrastructure", "GPUs of 80 GB or more on a fast network, or a cloud", "a small run reaches its planned MFU"
    ),
    Stage("experiments", "architecture and hyperparameters on far smaller models", "the loss curve is predicted"),
    Stage("training", "the long run with checkpoints, watched for spikes and failures", "the planned tokens are seen"),
    Stage("evaluation", "held-out loss and benchmarks, contamination checked", "it beats open models of its size"),
)


class PretrainingJob(Strict):
    """What is to be pretrained on what; give two of parameters, tokens and flops, or one and the rest is optimal."""

    parameters: float | None = Field(None, gt=0, description="Parameters of the model, all of them.")
    active_parameters: float | None = Field(None, gt=0, description="Parameters used per token, for experts.")
    tokens: float | None = Field(None, gt=0, description="Tokens seen in training.")
    flops: float | None = Field(None, gt=0, description="Compute budget in floating-point operations.")
    num_gpus: int = Field(GPUS_PER_NODE, gt=0, description="Devices that train together.")
    gpu: str = Field("A100-80", description="Name of the device, for the text only.")
    peak_tflops: float = Field(312.0, gt=0, description="Dense bf16 peak of one device, 1e12 FLOP/s.")
    gpu_memory_gb: float = Field(80.0, gt=0, description="Memory of one device, GB = 1e9 bytes.")
    tokens_per_second_per_gpu: float | None = Field(None, gt=0, description="Measured speed of one device.")
    mfu: float | None = Field(None, gt=0, le=1, description="Share of the peak reached, if it was measured.")
    usd_per_gpu_hour: float | None = Field(None, ge=0, description="Price of one device for an hour.")
    unique_tokens: float | None = Field(None, gt=0, description="Tokens of text at hand, before repetition.")
    vocab_size: int = Field(128_000, gt=0, description="Size of the vocabulary.")
    restart_minutes: float = Field(10.0, ge=0, description="From a failure until it trains again.")
    gpu_hours_per_failure: float | None = Field(None, gt=0, description="Measured on your cluster.")
    max_cost_usd: float | None = Field(None, ge=0, description="What may be spent.")


class PretrainingPlan(Strict):
    """The answer. `compute_days` is arithmetic alone, `days` has the failures and checkpoints in it."""

    parameters: float
    tokens: float
    flops: float
    tokens_per_parameter: float
    optimal: Split
    predicted_loss: float
    equivalent_compute: float
    num_gpus: int
    min_gpus: int
    tokens_per_second: Estimate
    mfu: float
    compute_days: Estimate
    days: Estimate
    gpu_hours: Estimate
    cost_usd: Estimate | None
    reliability: Reliability
    data: DataPipeline
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def training_flops(parameters: float, tokens: float) -> float:
    """6ND: two operations per weight and token forwards, four backwards (Kaplan et al. 2020, arXiv 2001.08361)."""
    return 6 * parameters * tokens


def gpu_hours(num_gpus: int, days: float) -> float:
    """Device-hours of a run; 6,000 GPUs for 12 days are 1,728,000."""
    return num_gpus * days * 24


def usd_per_gpu_hour(usd: float, hours: float) -> float:
    """The price per device-hour that a total implies; $2M over 1,728,000 hours is $1.157."""
    return usd / hours


def compute_days(tokens: float, tokens_per_second_per_gpu: float, num_gpus: int) -> float:
    """Days of pure training; 1.4T tokens at 380 per second on each of 2,048 A100 are 20.8."""
    return tokens / (tokens_per_second_per_gpu * num_gpus) / 86_400


def optimal_tokens(parameters: float) -> float:
    """Twenty tokens per parameter (Hoffmann et al. 2022, arXiv 2203.15556)."""
    return TOKENS_PER_PARAMETER * parameters


def compute_optimal(flops: float) -> Split:
    """The size and tokens that use a compute budget best, at twenty tokens per parameter: N = sqrt(C / 120)."""
    parameters = math.sqrt(flops / (6 * TOKENS_PER_PARAMETER))
    return Split(parameters=parameters, tokens=optimal_tokens(parameters))


def predicted_loss(parameters: float, tokens: float) -> float:
    """Loss in nats per token of web text by the scaling law; good for comparing two plans, not as a promise.

    Form of Hoffmann et al. 2022, coefficients of Besiroglu et al. 2024 (arXiv 2404.10102).
    """
    return LOSS_E + LOSS_A / math.pow(parameters, LOSS_ALPHA) + LOSS_B / math.pow(tokens, LOSS_BETA)


def equivalent_compute(parameters: float, tokens: float) -> float:
    """Share of this plan's compute that a compute-optimal run needs for the same predicted loss; 1 = optimal."""
    target, log_low, log_high = predicted_loss(parameters, tokens), 0.0, math.log(training_flops(parameters, tokens))
    top = log_high
    for _ in range(80):
        middle = (log_low + log_high) / 2
        if _best_loss(math.exp(middle)) > target:
            log_low = middle
        else:
            log_high = middle
    return math.exp(log_high - top)


def _best_loss(flops: float) -> float:
    """The lowest loss of the scaling law at a compute budget; the optimum is in closed form."""
    ratio = (LOSS_ALPHA * LOSS_A / (LOSS_BETA * LOSS_B)) ** (1 / (LOSS_ALPHA + LOSS_BETA))
    parameters = ratio * (flops / 6) ** (LOSS_BETA / (LOSS_ALPHA + LOSS_BETA))
    return predicted_loss(parameters, flops / 6 / parameters)


def checkpoint_interval_seconds(checkpoint_seconds: float, seconds_between_failures: float) -> float:
    """Seconds of training between two checkpoints that lose the least.

    Young 1974 (CACM 17:9): sqrt(2 x checkpoint x failure time); with the higher terms of Daly 2006 (FGCS 22:3).
    """
    ratio = checkpoint_seconds / (2 * seconds_between_failures)
    if ratio >= 1:
        return seconds_between_failures
    young = math.sqrt(2 * checkpoint_seconds * seconds_between_failures)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - checkpoint_seconds


def lost_fraction(
    checkpoint_seconds: float, interval_seconds: float, restart_seconds: float, seconds_between_failures: float
) -> float:
    """Share of the wall time that writes checkpoints, repeats lost steps and restarts; at most 0.95."""
    writing = checkpoint_seconds / (interval_seconds + checkpoint_seconds)
    repeating = (interval_seconds / 2 + restart_seconds) / seconds_between_failures
    return min(0.95, writing + repeating)


def data_pipeline(tokens: float, *, vocab_size: int, tokens_per_second: float = 0.0) -> DataPipeline:
    """Sizes and work of the corpus: crawled, cleaned, tokenised; two bytes a token up to 65,536 entries, else four."""
    token_bytes = 2 if vocab_size <= 65_536 else 4
    clean = tokens * TEXT_BYTES_PER_TOKEN
    raw = clean / KEPT_FRACTION
    core_seconds = raw / FILTER_BYTES_PER_SECOND + clean / TOKENISE_BYTES_PER_SECOND
    return DataPipeline(
        tokens=tokens,
        clean_text_bytes=clean,
        raw_text_bytes=raw,
        tokenised_bytes=tokens * token_bytes,
        core_hours=core_seconds / 3600,
        loader_bytes_per_second=tokens_per_second * token_bytes,
    )


def two_stages(tuning_gpu_hours: float = 24.0, tuning_days: float = 1.0, usd_per_hour: float = 2.0) -> TwoStages:
    """The usual example of pretraining (6,000 GPUs, 12 days, about $2M) beside a fine-tune of about a day."""
    hours, usd = gpu_hours(6000, 12), 2e6
    tuning_usd = tuning_gpu_hours * usd_per_hour
    return TwoStages(
        pretraining_gpu_hours=hours,
        pretraining_days=12,
        pretraining_usd=usd,
        tuning_gpu_hours=tuning_gpu_hours,
        tuning_days=tuning_days,
        tuning_usd=tuning_usd,
        cost_ratio=usd / max(tuning_usd, 0.01),
    )


def plan_pretraining(job: PretrainingJob) -> PretrainingPlan:
    """Tokens, size, days, dollars, failures and data of a pretraining run. Raises ConfigError on contradictions."""
    assumptions: list[str] = []
    split = _size_and_tokens(job, assumptions)
    size, tokens = split.parameters, split.tokens
    active = min(job.active_parameters or size, size)
    speed = _speed(job, active, assumptions)
    flops = training_flops(active, tokens)
    pure = _days(tokens, speed)
    reliability = _reliability(job, size, pure, assumptions)
    days = _stretched(pure, 1 / (1 - reliability.lost_fraction))
    hours = _stretched(days, 24 * job.num_gpus)
    price = job.usd_per_gpu_hour
    data = data_pipeline(tokens, vocab_size=job.vocab_size, tokens_per_second=speed.expected)
    assumptions.append(
        f"the corpus: {TEXT_BYTES_PER_TOKEN:g} bytes of text a token, {KEPT_FRACTION:.0%} of the crawled text kept"
    )
    found = PretrainingPlan(
        parameters=size,
        tokens=tokens,
        flops=flops,
        tokens_per_parameter=tokens / active,
        optimal=compute_optimal(flops),
        predicted_loss=predicted_loss(active, tokens),
        equivalent_compute=equivalent_compute(active, tokens),
        num_gpus=job.num_gpus,
        min_gpus=math.ceil(size * STATE_BYTES_PER_PARAMETER / (job.gpu_memory_gb * 1e9 * STATE_SHARE_OF_MEMORY)),
        tokens_per_second=speed,
        mfu=6 * active * speed.expected / (job.num_gpus * job.peak_tflops * 1e12),
        compute_days=pure,
        days=days,
        gpu_hours=hours,
        cost_usd=None if price is None else _stretched(hours, price),
        reliability=reliability,
        data=data,
        assumptions=tuple(assumptions),
        warnings=(),
    )
    return found.model_copy(update={"warnings": tuple(_warnings(job, found))})


def _size_and_tokens(job: PretrainingJob, assumptions: list[str]) -> Split:
    """Parameters and tokens, from whichever of size, tokens and compute are given."""
    size, tokens, flops = job.parameters, job.tokens, job.flops
    if size and tokens:
        if flops and abs(training_flops(job.active_parameters or size, tokens) / flops - 1) > 0.05:
            raise ConfigError(
                f"6 x parameters x tokens = {training_flops(job.active_parameters or size, tokens):.3g} FLOP, "
                f"but flops = {flops:.3g}",
                fix="give two of parameters, tokens and flops",
            )
        return Split(parameters=size, tokens=tokens)
    if not (size or tokens or flops):
        raise ConfigError("nothing says how large the run is", fix="give --params, tokens or a compute budget")
    if flops and size:
        return Split(parameters=size, tokens=flops / 6 / (job.active_parameters or size))
    if flops and tokens:
        return Split(parameters=flops / 6 / tokens, tokens=tokens)
    assumptions.append("compute-optimal: 20 tokens per parameter (Hoffmann et al. 2022)")
    if flops:
        return compute_optimal(flops)
    if size:
        return Split(parameters=size, tokens=optimal_tokens(size))
    assert tokens is not None
    return Split(parameters=tokens / TOKENS_PER_PARAMETER, tokens=tokens)


def _speed(job: PretrainingJob, active: float, assumptions: list[str]) -> Estimate:
    """Tokens per second of all devices together."""
    if job.tokens_per_second_per_gpu:
        middle = job.tokens_per_second_per_gpu * job.num_gpus
        return Estimate(low=middle * 0.95, expected=middle, high=middle * 1.05)
    ideal = job.num_gpus * job.peak_tflops * 1e12 / (6 * active)
    if job.mfu:
        return Estimate(low=ideal * job.mfu * 0.9, expected=ideal * job.mfu, high=ideal * min(1.0, job.mfu * 1.1))
    assumptions.append(f"{MFU.low:.0%} to {MFU.high:.0%} of the peak is reached (6ND), {MFU.expected:.0%} expected")
    return Estimate(low=ideal * MFU.low, expected=ideal * MFU.expected, high=ideal * MFU.high)


def _days(tokens: float, speed: Estimate) -> Estimate:
    """Days of pure training; the fastest speed gives the fewest."""
    rates = (speed.high, speed.expected, speed.low)
    low, expected, high = (compute_days(tokens, rate, 1) for rate in rates)
    return Estimate(low=low, expected=expected, high=high)


def _stretched(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(low=estimate.low * factor, expected=estimate.expected * factor, high=estimate.high * factor)


def _reliability(job: PretrainingJob, size: float, days: Estimate, assumptions: list[str]) -> Reliability:
    """Failures of the run, and how often to save."""
    measured = job.gpu_hours_per_failure
    between = Estimate(low=measured, expected=measured, high=measured) if measured else GPU_HOURS_PER_FAILURE
    if not measured:
        assumptions.append(
            f"a failure every {between.expected:,.0f} GPU-hours, {between.low:,.0f} to {between.high:,.0f} "
            "(Llama 3; Kokolis et al. 2024)"
        )
    num_bytes = size * CHECKPOINT_BYTES_PER_PARAMETER
    rate = min(CHECKPOINT_GB_PER_SECOND_AT_MOST, CHECKPOINT_GB_PER_SECOND_PER_NODE * job.num_gpus / GPUS_PER_NODE)
    assumptions.append(f"a checkpoint is written at {rate:g} GB/s while training waits")
    seconds = num_bytes / (rate * 1e9)
    failure_seconds = between.expected / job.num_gpus * 3600
    interval = checkpoint_interval_seconds(seconds, failure_seconds)
    hours = _stretched(days, 24 * job.num_gpus)
    failures = Estimate(
        low=hours.low / between.high, expected=hours.expected / between.expected, high=hours.high / between.low
    )
    return Reliability(
        failures=failures,
        hours_between_failures=failure_seconds / 3600,
        checkpoint_bytes=num_bytes,
        checkpoint_seconds=seconds,
        checkpoint_interval_seconds=interval,
        lost_fraction=lost_fraction(seconds, interval, job.restart_minutes * 60, failure_seconds),
    )


def _warnings(job: PretrainingJob, plan: PretrainingPlan) -> list[str]:
    """What a person should know before spending this."""
    found = [*_balance_warnings(plan)]
    if plan.num_gpus < plan.min_gpus:
        state = show_bytes(plan.parameters * STATE_BYTES_PER_PARAMETER)
        found.append(
            f"weights, gradients and optimizer need {state}: at least "
            f"{plan.min_gpus} x {job.gpu} of {job.gpu_memory_gb:g} GB, {plan.num_gpus} given"
        )
    if plan.mfu > 0.65:
        found.append(f"the speed given is {plan.mfu:.0%} of the peak of {job.gpu}; 50 % is rarely passed: check it")
    if job.unique_tokens and plan.tokens > MAX_GOOD_EPOCHS * job.unique_tokens:
        found.append(
            f"{plan.tokens / job.unique_tokens:.1f} passes over the text; beyond {MAX_GOOD_EPOCHS:g} "
            "repeated text is worth much less than new text (Muennighoff et al. 2023)"
        )
    if plan.days.expected > 120:
        found.append(f"{plan.days.expected:,.0f} days: more GPUs or a smaller model; hardware and recipes age faster")
    if job.max_cost_usd is not None and plan.cost_usd and plan.cost_usd.high > job.max_cost_usd:
        found.append(f"may cost {show_usd(plan.cost_usd.high)}, more than the {show_usd(job.max_cost_usd)} allowed")
    if plan.cost_usd is None or plan.cost_usd.expected > 10_000:
        found.append("fine-tuning an open model costs a few dollars to thousands: pretrain only if none will do")
    return found


def _balance_warnings(plan: PretrainingPlan) -> list[str]:
    """Far off compute-optimal, and what that costs."""
    ratio, best = plan.tokens_per_parameter, plan.optimal
    optimum = f"compute-optimal here: {show_count(best.parameters)} parameters on {show_count(best.tokens)} tokens"
    waste = f"the same loss is predicted from {plan.equivalent_compute:.0%} of the compute"
    if ratio < TOKENS_PER_PARAMETER / 2:
        return [f"only {ratio:.1f} tokens per parameter: too large for its data; {optimum}; {waste}"]
    if ratio > TOKENS_PER_PARAMETER * 10:
        served = "pays only if the model serves much"
        return [f"{ratio:,.0f} tokens per parameter, far beyond 20: {served}; {optimum}; {waste}"]
    return []
