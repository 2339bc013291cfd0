"""The plan of a split test: made from a rate and the traffic, stored before it starts, read with all its faults."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from foretune.compare.guards import DEFAULT_GUARDS, outcome_spec, sign_of
from foretune.compare.outcomes import Outcomes
from foretune.compare.traffic import DAY_SECONDS
from foretune.errors import ConfigError, DataError, Fault, NotFound
from foretune.records.comparison import Allocation, Experiment, OutcomeSpec
from foretune.stats.design import SplitDesign, plan_split

__all__ = ["FEWEST_UNITS", "Past", "Planned", "past_of", "plan_experiment", "read_experiment"]

FEWEST_UNITS = 100  # users a variant before an interval means something
PLAN_FIX = "foretune compare --plan FOLDER   # writes one"


class Past(NamedTuple):
    """The primary outcome before the test: its mean, standard deviation (None for a rate), new users a day."""

    mean: float
    deviation: float | None
    users_per_day: float


class Planned(NamedTuple):
    """The experiment and what it takes."""

    experiment: Experiment
    design: SplitDesign


def past_of(outcomes: Outcomes, primary: str) -> Past:
    """Mean and spread of an outcome over users, and new users a day, from a log. Raises DataError without such rows."""
    column = outcomes.values.get(primary)
    if column is None or not np.isfinite(column).any():
        found = ", ".join(outcomes.values) or "none"
        raise DataError(f"no row has the outcome {primary!r}; found: {found}", fix="--primary OUTCOME")
    kept = np.isfinite(column)
    users, index = np.unique(outcomes.user_N[kept], return_inverse=True)
    totals, counts = np.bincount(index, weights=column[kept]), np.bincount(index)
    means = totals if outcome_spec(primary).per == "user" else totals / counts
    is_rate = bool(np.isin(means, (0.0, 1.0)).all())
    days = max(1, math.ceil((outcomes.seconds_N[-1] - outcomes.seconds_N[0]) / DAY_SECONDS))
    deviation = None if is_rate else float(means.std(ddof=1)) if users.size > 1 else 0.0
    return Past(float(means.mean()), deviation, users.size / days)


def plan_experiment(
    past: Past,
    smallest: float,
    *,
    baseline: str,
    candidate: str,
    primary: str,
    share: float = 0.5,
    guards: tuple[OutcomeSpec, ...] = DEFAULT_GUARDS,
    start: datetime | None = None,
) -> Planned:
    """Plan a split test that shows a true difference of `smallest` (in the outcome's unit) in four cases of five.

    `share` of the users get the candidate. It starts at `start`, else at the next midnight (UTC), and runs whole weeks.
    Raises ConfigError where the figures make no test.
    """
    if smallest <= 0:
        raise ConfigError(f"the smallest difference is {smallest:g}, expected more than 0", fix="--smallest 0.03")
    if candidate == baseline:
        raise ConfigError(f"baseline and candidate are both {baseline!r}, expected two names", fix="--candidate NAME")
    _check_rate(past, smallest, primary)
    spec = outcome_spec(primary).model_copy(update={"margin": smallest, "relative": False})
    difference = sign_of(spec) * smallest
    design = plan_split(past.mean, difference, past.users_per_day, deviation=past.deviation, share=share)
    begin = start or (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    experiment = Experiment(
        name=f"{candidate} against {baseline} from {begin:%Y-%m-%d}",
        baseline=baseline,
        allocations=(Allocation(start=begin, shares={baseline: 1 - share, candidate: share}),),
        primary=spec,
        guards=tuple(guard for guard in guards if guard.name != primary),
        planned_days=design.days,
        planned_units=max(FEWEST_UNITS, design.units_per_arm),
    )
    return Planned(experiment, design)


def _check_rate(past: Past, smallest: float, primary: str) -> None:
    """Raise ConfigError where what is known of a rate makes none."""
    if past.deviation is not None:
        return
    if not 0 < past.mean < 1:
        raise ConfigError(
            f"the rate of {primary} is {past.mean:g}, expected a fraction between 0 and 1",
            fix="--rate 0.6, or a log of the past where the outcome is no rate: --outcomes past.csv",
        )
    room = past.mean if outcome_spec(primary).better == "lower" else 1 - past.mean
    if smallest > room:
        raise ConfigError(
            f"{primary} is {past.mean:.3g} now, so it can get better by {room:.3g} at most, not by {smallest:g}",
            fix="--smallest 0.03",
        )


def read_experiment(folder: Path) -> Experiment:
    """The plan in `folder`. Raises NotFound, and DataError with all that is wrong with it."""
    path = folder / Experiment.file_name
    if not path.is_file():
        raise NotFound(f"no {Experiment.file_name} in {folder}", fix=PLAN_FIX)
    try:
        return Experiment.model_validate_json(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8", fix="save it as UTF-8") from None
    except ValidationError as error:
        told = [(".".join(str(part) for part in one["loc"]), str(one["msg"])) for one in error.errors()]
        faults = tuple(Fault(str(path), 0, f"{where}: {what}" if where else what) for where, what in told)
        listed = "\n".join(f"  {fault.what}" for fault in faults)
        raise DataError(f"{path} is no plan of a split test:\n{listed}", faults=faults, fix=PLAN_FIX) from None
