"""Guard metrics of the verdict: what a gain must not cost, each proven not worse by its own margin."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Sequence

from foretune.config.job import JobConfig
from foretune.errors import ConfigError
from foretune.evaluate.scorers.registry import find_scorer
from foretune.evaluate.scorers.table import ScoreTable, compare_scores
from foretune.stats.verdict import Noninferiority, noninferior

__all__ = ["guard_margins", "judged_guards"]


def guard_margins(job: JobConfig) -> dict[str, float]:
    """Each guard metric of the job with what it may lose, in its own unit.

    Raises ConfigError for one that is not METRIC=LOSS, that decides itself, or of which more is not better.
    """
    found: dict[str, float] = {}
    for entry in job.evaluate.advanced.guards:
        name, _, text = entry.rpartition("=")
        try:
            loss = float(text)
        except ValueError:
            loss = 0.0
        if not name or not 0 < loss < float("inf"):
            fix = 'evaluate.advanced.guards = ["json_valid=0.02"]'
            raise ConfigError(f"the guard {entry!r} is not of the form METRIC=LOSS, with a loss above 0", fix=fix)
        if find_scorer(name).higher_is_better is not True:
            raise ConfigError(f"{name} can be no guard, as more of it is not better", fix="take it out of guards")
        if name == job.evaluate.primary_metric:
            raise ConfigError(f"{name} decides already, so it guards nothing", fix="take it out of guards")
        found[name] = loss
    return found


def judged_guards(
    margins: dict[str, float],
    baseline: ScoreTable,
    tuned: ScoreTable,
    *,
    groups: Sequence[Hashable] | None,
    look: int,
) -> list[Noninferiority]:
    """Whether each guard holds on the same samples; one that was not scored for both is unproven."""
    return [
        noninferior(compare_scores(name, baseline, tuned, groups=groups, look=look, margin=loss), loss, name)
        if all(name in table.metrics for table in (baseline, tuned))
        else Noninferiority(name, "unproven", loss, float("-inf"), tuned.n, f"{name} was not scored for both systems")
        for name, loss in margins.items()
    ]
