"""What a training run on a named device would take: memory, time and money as intervals, and what they rest on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from foretune.records.plan import Estimate

__all__ = ["Forecast", "Offer", "Price"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Price(_Part):
    """Dollars for an hour of one device, with provider, source and date; `is_stale` after 90 days."""

    usd_per_gpu_hour: float
    provider: str
    source: str
    date: str
    is_stale: bool = False
    is_spot: bool = False


class Forecast(_Part):
    """One configuration. GB = 1e9 bytes per device; intervals hold the truth four times of five.

    `fits` is judged on the high end of the peak against what the device has; None where no device is known. Hours,
    speed and cost are None where what they need is not known; `assumptions` says what was filled in.
    """

    base: str
    method: str
    precision: str
    device: str
    num_gpus: int
    total_parameters: int
    trainable_parameters: int
    fits: bool | None
    device_memory_gb: float
    peak_memory_gb: Estimate
    memory_components: dict[str, float]  # bytes per device
    memory_formulas: dict[str, str]
    cpu_ram_gb: float
    disk_gb: float
    tokens_per_second: Estimate | None  # of all devices
    train_hours: Estimate | None
    time_components: dict[str, float]  # seconds of one optimizer step
    time_formulas: dict[str, str]
    mfu: float | None
    cost_usd: Estimate | None
    price: Price | None
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Offer(_Part):
    """One way of running a job: a device, how many, a method and a provider, with what it takes.

    `is_pareto`: no other offer that fits is both cheaper and quicker.
    """

    device: str
    num_gpus: int
    method: str
    precision: str
    provider: str
    fits: bool
    peak_memory_gb: Estimate
    train_hours: Estimate | None
    cost_usd: Estimate | None
    price: Price | None
    is_pareto: bool = False
    is_chosen: bool = False
    reason: str = ""
