"""Everything a diagnosis looks at, read once from the run folder."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foretune.config.derive import LEARNING_RATES, USUAL_LEARNING_RATES
from foretune.config.job import JobConfig
from foretune.diagnose.curves import Curves, read_curves
from foretune.errors import NotFound
from foretune.records.audit import AuditRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.plan import PlanRecord

__all__ = [
    "CERTAIN",
    "LEARNED_NATS",
    "LEAST_STEPS",
    "MOST",
    "Evidence",
    "gather",
    "is_lower_better",
    "percent",
    "strength",
]

CERTAIN = 100.0  # statistic of what is not a matter of degree: a loss that is not a number
LEAST_STEPS = 10  # optimizer steps before a curve has a shape
LEARNED_NATS = 0.1  # a training loss below this is not one of a model that has learned too little
MOST = 50.0  # cap of every other statistic


@dataclass(frozen=True)
class Evidence:
    """The job, its curves, and the records that exist."""

    job: JobConfig
    run_id: str
    curves: Curves
    evaluation: EvaluationRecord | None = None
    audit: AuditRecord | None = None
    plan: PlanRecord | None = None

    @property
    def learning_rate(self) -> float:
        """The peak learning rate of the run."""
        return self.job.train.learning_rate or LEARNING_RATES[self.job.train.method]

    @property
    def usual_rates(self) -> tuple[float, float]:
        """The range of learning rates that usually works for the method."""
        return USUAL_LEARNING_RATES[self.job.train.method]

    @property
    def num_train_samples(self) -> int:
        """Training samples, from the plan, else estimated from the audit and the split; 0 = unknown."""
        if self.plan is not None:
            return self.plan.num_train_samples
        if self.audit is not None:
            data = self.job.data
            return round(self.audit.num_samples * (1 - data.validation_fraction - data.test_fraction))
        return 0

    def steps_missing(self, least: int) -> str:
        """Says that the run is shorter than `least` optimizer steps; "" where it is not."""
        num = len(self.curves.finite_train)
        return f"needs {least} optimizer steps, the run has {num}" if num < least else ""

    def rate_against_usual(self) -> str:
        """One sentence: where the learning rate lies against the usual range."""
        rate, (low, high) = self.learning_rate, self.usual_rates
        usual = f"the usual {low:g} to {high:g} for method {self.job.train.method}"
        if rate > high:
            return f"Learning rate {rate:g} is {rate / high:.3g} times the top of {usual}."
        if rate < low:
            return f"Learning rate {rate:g} is {low / rate:.3g} times below {usual}."
        return f"Learning rate {rate:g} lies within {usual}."


def gather(job: JobConfig, run_dir: Path) -> Evidence:
    """Read the run folder. Raises NotFound where it holds neither curve nor evaluation, DataError where damaged."""
    curves = read_curves(run_dir)
    evaluation = EvaluationRecord.read(run_dir) if EvaluationRecord.exists(run_dir) else None
    if not curves.train and not curves.failure and evaluation is None:
        raise NotFound(
            f"run {run_dir.name} has no loss curve and no evaluation yet", fix=f"foretune runs resume {run_dir.name}"
        )
    return Evidence(
        job=job,
        run_id=run_dir.name,
        curves=curves,
        evaluation=evaluation,
        audit=AuditRecord.read(run_dir) if AuditRecord.exists(run_dir) else None,
        plan=PlanRecord.read(run_dir) if PlanRecord.exists(run_dir) else None,
    )


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of this metric is the better one."""
    return any(word in metric for word in ("perplexity", "loss", "bits_per"))


def percent(fraction: float, digits: int = 0) -> str:
    """A fraction as per cent: `35 %`."""
    return f"{100 * fraction:.{digits}f} %"


def strength(statistic: float) -> float:
    """A statistic as it is recorded: at most `MOST`, three digits."""
    return float(f"{min(statistic, MOST):.3g}")
