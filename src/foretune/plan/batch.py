"""Many rows of a table at once: a forecast for each, or the fault in place of it where a row cannot be read."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foretune.errors import ForetuneError
from foretune.plan.forecast import cost_of, forecast, given_price
from foretune.plan.gpu_memory import calibrated as calibrated_memory
from foretune.plan.gpu_time import calibrated as calibrated_time
from foretune.plan.rows import read_rows, setup_of
from foretune.plan.setup import Setup
from foretune.records.forecast import Forecast
from foretune.records.plan import Estimate

FORMULAS = {"memory_formulas", "time_formulas"}  # the same for every row

__all__ = ["Measured", "forecast_rows", "forecast_table", "measured_rows"]


class Measured(NamedTuple):
    """A run that was measured: its peak in GB a device and its tokens a second of all devices, None where not told."""

    setup: Setup
    peak_gb: float | None
    tokens_per_second: float | None


def forecast_table(path: Path, measured: Path | None = None) -> list[dict[str, Any]]:
    """One document a row of a CSV file with the columns of the table of observed runs, in its order.

    `measured` is a table of the same columns with `peak_mem_gb` or `tokens_per_s_total` filled: what was measured with
    the same model, device, method and framework calibrates the rows. Raises DataError where a file is no such table.
    """
    known = measured_rows(read_rows(measured)) if measured is not None else []
    return list(forecast_rows(read_rows(path), known))


def measured_rows(rows: Sequence[Mapping[str, str]]) -> list[Measured]:
    """The rows that tell a measured peak or speed; rows that cannot be read are left out."""
    found = []
    for row in rows:
        peak, speed = _measurement(row, "peak_mem_gb"), _measurement(row, "tokens_per_s_total")
        if peak is None and speed is None:
            continue
        try:
            found.append(Measured(setup_of(row)[0], peak, speed))
        except ForetuneError:
            continue
    return found


def forecast_rows(rows: Sequence[Mapping[str, str]], known: Sequence[Measured] = ()) -> Iterator[dict[str, Any]]:
    """A document for each row: its `id`, and the forecast or an `error` with its fix."""
    for number, row in enumerate(rows, 1):
        name = {"id": row.get("id") or str(number), "line": row.get("#line", "")}
        try:
            yield {
                **name,
                **_forecast(row, known).model_dump(mode="json", exclude=FORMULAS),
            }
        except ForetuneError as error:
            yield {**name, "error": error.what, "fix": error.fix}


def _forecast(row: Mapping[str, str], known: Sequence[Measured]) -> Forecast:
    setup, assumptions = setup_of(row)
    answer = forecast(setup, assumptions=assumptions, price=given_price(row.get("price_per_gpu_h", "")), suggests=False)
    alike = [one for one in known if _is_alike(setup, one.setup)]
    return _calibrated(answer, setup, alike) if alike else answer


def _calibrated(answer: Forecast, setup: Setup, alike: Sequence[Measured]) -> Forecast:
    """The forecast corrected by what was measured on runs like it."""
    peaks = [(one.setup, one.peak_gb) for one in alike if one.peak_gb is not None]
    speeds = [(one.setup, one.tokens_per_second) for one in alike if one.tokens_per_second is not None]
    changes: dict[str, Any] = {}
    if peaks:
        memory = calibrated_memory(setup, peaks)
        changes["peak_memory_gb"] = Estimate(low=memory.low_gb, expected=memory.expected_gb, high=memory.high_gb)
        changes["fits"] = memory.fits(answer.device_memory_gb) if answer.device_memory_gb else None
        changes["fit_state"] = memory.state(answer.device_memory_gb) if answer.device_memory_gb else None
    if speeds:
        time = calibrated_time(setup, speeds)
        changes["tokens_per_second"], changes["train_hours"] = time.tokens_per_second, time.train_hours
        changes["cost_usd"] = cost_of(time.train_hours, setup.num_gpus, answer.price)
    said = f"calibrated by {len(peaks)} measured peaks and {len(speeds)} measured speeds of runs like it"
    return answer.model_copy(update={**changes, "assumptions": (*answer.assumptions, said)})


def _is_alike(setup: Setup, other: Setup) -> bool:
    """The same model, method, device and framework: what differs is length, batch or checkpointing."""
    same = ("method", "objective", "device", "framework", "weights")
    return setup.shape == other.shape and all(getattr(setup, name) == getattr(other, name) for name in same)


def _measurement(row: Mapping[str, str], column: str) -> float | None:
    try:
        value = float(row.get(column) or "nan")
    except ValueError:
        return None
    return value if value > 0 else None
