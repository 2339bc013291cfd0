"""A job cut down to two steps on 200 rows: does it work at all?"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from foretune.config.read import ResolvedJob

__all__ = ["smoked"]

SMOKE: dict[str, Any] = {"max_steps": 2, "eval_every": 1, "save_every": 1}
SMOKE_ROWS = 200


def smoked(given: ResolvedJob) -> ResolvedJob:
    """The same job with at most 200 rows and two steps, a validation and a checkpoint after each."""
    rows = min(given.job.data.max_rows or SMOKE_ROWS, SMOKE_ROWS)
    advanced = given.job.train.advanced.model_copy(update=SMOKE)
    job = given.job.model_copy(
        update={
            "data": given.job.data.model_copy(update={"max_rows": rows}),
            "train": given.job.train.model_copy(update={"advanced": advanced}),
        }
    )
    return ResolvedJob(job, given.origins, given.folder)
