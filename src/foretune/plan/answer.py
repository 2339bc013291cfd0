"""The answer to a request without a job: what is not given is filled as the engine would choose it, then forecast."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from foretune.config import JobConfig, TrainConfig
from foretune.errors import ConfigError
from foretune.hardware import detect_machine
from foretune.hardware.devices import device_named, resolve_device
from foretune.models.base import EMBEDDED, resolve_base
from foretune.plan.forecast import forecast, given_price, usable_gb
from foretune.plan.gpu_memory import peak_memory
from foretune.plan.gpu_work import is_packed
from foretune.plan.request import PlanRequest
from foretune.plan.rows import setup_of
from foretune.plan.setup import Setup
from foretune.plan.workload import histogram
from foretune.records.forecast import Forecast, Price
from foretune.records.plan import Estimate, PlanRecord

__all__ = ["answer", "forecast_of_plan", "request_of_job", "requested_setup"]

MICRO_BATCHES = (16, 8, 4, 2, 1)
GLOBAL_BATCH = 16  # the engine's default
LENGTH_SPREAD = 4  # longest over mean length of instruction data, where only the mean is given
# Parameters from which on, and memory up to which, a micro-batch of more rows is not suggested unmeasured: the usual
# recipes for models of 7B take 1 to 4 rows a device, and 2 with 8 accumulated on 16 GB (requirements R207, R208).
CAUTIOUS: tuple[tuple[float, float, int, str], ...] = (
    (6e9, 16.5, 2, "the usual one of models of this size on 16 GB"),
    (6e9, math.inf, 4, "the most for models of this size before anything is measured"),
)
SHORTEST_ROW = 256
CHARACTERS_PER_TOKEN = 4.0


# What is chosen where the request is silent; a choice that is made is known, so it does not widen the interval.
CHOSEN: dict[str, tuple[object, str]] = {
    "num_gpus": (1, "number of devices not given: 1"),
    "precision": ("bf16", "precision not given: bf16"),
    "checkpointing": ("full", "activation checkpointing not given: full"),
    "packing": (False, "packing not given: no"),
    "rank": (16, "rank not given: 16"),
}


def answer(request: PlanRequest, *, data: Path | None = None) -> Forecast:
    """The forecast of a request; `data` is a file of samples whose real lengths count.

    Raises ConfigError for an unknown model or device, with the closest names; DataError where `data` cannot be read.
    """
    setup, assumptions = requested_setup(request, data=data)
    price = None if request.price_per_gpu_hour is None else given_price(str(request.price_per_gpu_hour))
    return forecast(setup, assumptions=assumptions, price=price)


def requested_setup(request: PlanRequest, *, data: Path | None = None) -> tuple[Setup, tuple[str, ...]]:
    """The setup of a request and every assumption made on the way."""
    if request.base is None and request.params is None:
        raise ConfigError("neither a model nor its size is given", fix="--base llama-2-7b, or --params 7B")
    said: list[str] = []
    lengths = _lengths(request, data, said) if data is not None else ()
    filled = request.model_copy(update=_filled(request, said, lengths))
    setup, assumptions = setup_of(filled.as_row())
    if lengths:
        setup = setup.changed(row_tokens=histogram(lengths))
        said.append(f"real lengths of {len(lengths):,} rows, {_batching(setup)}")
    if request.micro_batch_size is None:
        setup = _with_micro_batch(setup, said)
    if request.framework is None:
        said.append("framework not given: as Hugging Face's usual stack")
    return setup, (*said, *assumptions)


def _filled(request: PlanRequest, said: list[str], lengths: Sequence[int]) -> dict[str, object]:
    """Values for what the request leaves open."""
    values: dict[str, object] = {"gpu": _device(request, said), "method": request.method or "lora"}
    if request.base == EMBEDDED:
        values["base"] = str(resolve_base(EMBEDDED))
    if request.method is None:
        said.append("method not given: lora")
    if lengths:
        values |= {"num_examples": len(lengths), "tokens_per_example": sum(lengths) / len(lengths)}
    mean = values.get("tokens_per_example") or request.tokens_per_example
    if request.max_seq_len is None and (lengths or mean):
        longest = max(lengths) if lengths else LENGTH_SPREAD * float(str(mean))
        values["max_seq_len"] = max(SHORTEST_ROW, 2 ** math.ceil(math.log2(longest)))
        said.append(f"longest row not given: {values['max_seq_len']} tokens")
    elif request.max_seq_len is None:
        values["max_seq_len"] = 1024
        said.append("longest row not given: 1,024 tokens")
    values["micro_batch_size"] = request.micro_batch_size or 1
    for name, (value, words) in CHOSEN.items():
        if getattr(request, name) is None:
            values[name] = value
            said.append(words)
    return values


def _batching(setup: Setup) -> str:
    """How rows of unequal length share a batch, in words."""
    if is_packed(setup):
        return "packed into full ones"
    return "batches of like length" if setup.groups_by_length else "padded to the longest of their batch"


def _device(request: PlanRequest, said: list[str]) -> str:
    """The device asked for, else this machine's, else the one that most published runs used."""
    if request.gpu is not None:
        return device_named(request.gpu).name
    machine = detect_machine(".")
    if machine.gpus:
        said.append(f"device not given: this machine's {machine.gpus[0].name}")
        return device_named(machine.gpus[0].name).name
    choice = resolve_device("")
    said.append(f"device not given and no GPU here: {choice.device.name}")
    return choice.device.name


def _lengths(request: PlanRequest, data: Path, said: list[str]) -> Sequence[int]:
    """Tokens of every sample, by the model's own tokenizer where its folder is at hand, else by characters."""
    from foretune.data.formats import read_samples
    from foretune.data.inputs import plain_text
    from foretune.data.tokenizer import Tokenizer

    samples = read_samples(data, task="any").samples
    texts = [plain_text(sample) for sample in samples]
    folder = resolve_base(EMBEDDED) if request.base == EMBEDDED else Path(request.base or "").expanduser()
    if request.base and folder.is_dir():
        return [len(ids) for ids in Tokenizer.from_folder(folder).encode_batch(texts)]
    said.append(f"tokens counted as characters over {CHARACTERS_PER_TOKEN:g}: the model's tokenizer is not at hand")
    return [max(1, round(len(text) / CHARACTERS_PER_TOKEN)) for text in texts]


def _with_micro_batch(setup: Setup, said: list[str]) -> Setup:
    """The largest power of two up to the engine's global batch that fits, as the engine would derive it."""
    copies = setup.parallel.data
    most, why = _most_rows(setup)
    for size in (size for size in MICRO_BATCHES if size <= most):
        changed = setup.changed(
            micro_batch_size=size,
            grad_accum_steps=max(1, GLOBAL_BATCH // (size * copies)),
            global_batch_size=max(GLOBAL_BATCH, size * copies),
        )
        if size * copies <= GLOBAL_BATCH and peak_memory(changed).fits(usable_gb(changed)):
            said.append(f"micro-batch size not given: {size}, " + (why if size == most else "the largest that fits"))
            return changed
    said.append("micro-batch size not given: 1")
    return setup.changed(grad_accum_steps=max(1, GLOBAL_BATCH // copies), global_batch_size=max(GLOBAL_BATCH, copies))


def _most_rows(setup: Setup) -> tuple[int, str]:
    """The largest micro-batch that is suggested before anything is measured, and why."""
    for parameters, memory_gb, most, why in CAUTIOUS:
        if setup.shape.parameters >= parameters and 0 < setup.device_memory_gb <= memory_gb:
            return most, why
    return MICRO_BATCHES[0], "the largest that fits"


def request_of_job(
    job: JobConfig, folder: Path, given: PlanRequest, data: Path | None = None
) -> tuple[PlanRequest, Path | None]:
    """A job as a request, what `given` says first; and the job's data where no other is named."""
    train = job.train
    base = folder / job.base if job.base != EMBEDDED and (folder / job.base).is_dir() else job.base
    told: dict[str, object] = {
        "base": str(base),
        "method": _asked_method(train),
        "epochs": train.epochs,
        "rank": train.rank,
        "max_seq_len": train.max_seq_len or None,
        "micro_batch_size": train.advanced.micro_batch_size or None,
        "precision": {"auto": None}.get(train.advanced.precision, train.advanced.precision),
        "price_per_gpu_hour": job.plan.price_per_hour_usd or None,
    }
    said = given.model_dump(include=given.model_fields_set)
    if "params" in said:
        del told["base"]
    return PlanRequest.model_validate({**told, **said}), data or (folder / job.data.path if job.data.path else None)


def _asked_method(train: TrainConfig) -> str:
    """The method as the forecast for GPUs knows it: heads cost what LoRA costs, 4 bits are QLoRA."""
    if train.method == "lora" and train.advanced.quantise_base == "4bit":
        return "qlora"
    return {"classify": "lora", "regress": "lora"}.get(train.method, train.method)


def forecast_of_plan(record: PlanRecord) -> Forecast:
    """The plan of a job on this machine in the form of a forecast."""
    hours = (record.train_seconds.low, record.train_seconds.expected, record.train_seconds.high)
    low, expected, high = (seconds / 3600 for seconds in hours)
    price = Price(
        usd_per_gpu_hour=record.price_per_hour_usd, provider="this machine", source="plan.price_per_hour_usd", date=""
    )
    return Forecast(
        base=record.base,
        method=record.method,
        precision="fp32",
        device=record.device,
        num_gpus=1,
        total_parameters=record.total_parameters,
        trainable_parameters=record.trainable_parameters,
        fits=record.fits,
        device_memory_gb=record.available_memory_gb,
        peak_memory_gb=record.peak_memory_gb,
        memory_components=record.memory_components,
        memory_formulas={},
        cpu_ram_gb=record.peak_memory_gb.expected,
        disk_gb=record.disk_bytes / 1e9,
        tokens_per_second=record.tokens_per_second,
        train_hours=Estimate(low=low, expected=expected, high=high),
        time_components={},
        time_formulas={},
        mfu=None,
        cost_usd=record.cost_usd,
        price=price,
        assumptions=record.assumptions,
        warnings=record.warnings,
    )
