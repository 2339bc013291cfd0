"""The pilot: a small first run on a part of the data that shows whether the whole is worth its price."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

from foretune.config import Strict
from foretune.records.plan import Estimate

__all__ = ["Pilot", "pilot_of"]

SHARE, LEAST, MOST = 0.1, 50, 500
START_HOURS = 1 / 60  # loading and compiling, which a small run pays in full
START_SHARE = 0.1  # of a whole run that is itself short


class Pilot(Strict):
    """A tenth of the examples (50 to 500), one epoch: hours, dollars, the command, and what must hold to go on."""

    num_examples: int
    epochs: float
    share: float
    hours: Estimate | None
    cost_usd: Estimate | None
    command: str
    go_on_if: tuple[str, ...]


def pilot_of(
    num_examples: int,
    epochs: float,
    hours: Estimate | None = None,
    cost_usd: Estimate | None = None,
    *,
    job: str = "job.toml",
) -> Pilot | None:
    """The first stage of a run over `num_examples` for `epochs`; None where there is too little data to divide.

    Hours are the whole run's by the share of its tokens, and a minute of start, at most a tenth of the whole.
    """
    count = min(MOST, max(LEAST, math.ceil(SHARE * num_examples)))
    if num_examples < 2 * LEAST:
        return None
    share = count / (num_examples * max(epochs, 1.0))
    return Pilot(
        num_examples=count,
        epochs=1.0,
        share=share,
        hours=None if hours is None else _part(hours, share, START_HOURS),
        cost_usd=None if cost_usd is None or hours is None else _priced(cost_usd, hours, share),
        command=f"foretune run {job} --set data.max_rows={count} --set train.epochs=1",
        go_on_if=(
            "the loss falls and the answers have the right form",
            "speed and memory are within the prediction: the whole run is predicted anew from them",
            "the tuned model is not behind the prompted base on the validation split",
        ),
    )


def _part(whole: Estimate, share: float, start: float) -> Estimate:
    begin = min(start, START_SHARE * whole.expected)
    return Estimate(
        low=whole.low * share + begin, expected=whole.expected * share + begin, high=whole.high * share + begin
    )


def _priced(cost: Estimate, hours: Estimate, share: float) -> Estimate:
    """The same price an hour as the whole run."""
    part = _part(hours, share, START_HOURS)
    rate = cost.expected / max(hours.expected, 1e-9)
    return Estimate(low=part.low * rate, expected=part.expected * rate, high=part.high * rate)
