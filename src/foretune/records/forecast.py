"""What a training run on a named device would take: memory, time and money as intervals, and what they rest on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from foretune.records.plan import Estimate

__all__ = ["Forecast", "Offer", "Price", "Unavailable"]


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

    `fits` is judged on the high end of the peak against what the device has; None where no device is known. Where it is
    false, `fit_state` is `tight` if the low end fits, else `no`. Hours,
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
    fit_state: Literal["yes", "tight", "no"] | None = None


class Offer(_Part):
    """One way of running a job: devices rented by the hour, or a provider that trains for you.

    `is_pareto`: no other offer that can be recommended is both cheaper and quicker. `basis` says how the dollars come
    about, minimums and increments included; `status` is the provider's state with its date. `peak_memory_gb` is None
    at a provider, `storage_usd_per_month` and `hosting_usd_per_hour` are what keeping and serving the result would
    take there, None where no price is known. An offer that is not `is_recommended` is shown, never chosen.
    """

    device: str
    num_gpus: int
    method: str
    precision: str
    provider: str
    fits: bool
    peak_memory_gb: Estimate | None
    train_hours: Estimate | None
    cost_usd: Estimate | None
    price: Price | None
    kind: Literal["rented", "hosted"] = "rented"
    micro_batch_size: int = 0  # rows a device and pass, 0 = the provider's choice
    basis: str = ""
    status: str = ""
    closes_on: str = ""
    storage_usd_per_month: float | None = None
    hosting_usd_per_hour: float | None = None
    hosting_basis: str = ""
    is_recommended: bool = True
    warnings: tuple[str, ...] = ()
    is_pareto: bool = False
    is_chosen: bool = False
    reason: str = ""

    @property
    def title(self) -> str:
        """What is used, in a few words: `2 x H100`, or `hosted`."""
        return f"{self.num_gpus} x {self.device}" if self.kind == "rented" else "hosted"


class Unavailable(_Part):
    """A provider that makes no offer for a job, and why."""

    provider: str
    reason: str
