"""Everything a diagnosis looks at, read once from the run folder."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from foretune.config.derive import LEARNING_RATES, USUAL_LEARNING_RATES
from foretune.config.job import JobConfig
from foretune.diagnose.curves import Curves, read_curves
from foretune.diagnose.sound import sound_evaluation, sound_probes, sound_reworded
from foretune.diagnose.thresholds import DEFAULT, Thresholds
from foretune.errors import NotFound
from foretune.records.audit import AuditRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.evidence import EvidenceRecord, RowEvidence
from foretune.records.plan import PlanRecord
from foretune.records.reworded import RewordedRecord

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
    """The job, its curves, and the records that exist.

    `without_settings`: judge by behaviour alone, and look neither at rates and epochs nor at token counts and template
    hashes. `damaged` says of a record's file why nothing in it counts.
    """

    job: JobConfig
    run_id: str
    curves: Curves
    evaluation: EvaluationRecord | None = None
    audit: AuditRecord | None = None
    plan: PlanRecord | None = None
    probes: EvidenceRecord | None = None
    reworded: RewordedRecord | None = None
    thresholds: Thresholds = DEFAULT
    without_settings: bool = False
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> RowEvidence | None:
        """The rows that training saw; None where they were not looked at, or settings are hidden."""
        return self.probes.rows if self.probes is not None and not self.without_settings else None

    @property
    def learning_rate(self) -> float:
        """The peak learning rate of the run."""
        return self.job.train.learning_rate or LEARNING_RATES[self.job.train.method]

    @property
    def usual_rates(self) -> tuple[float, float]:
        """The range of learning rates that usually works for the method."""
        return USUAL_LEARNING_RATES[self.job.train.method]

    @property
    def general_fraction(self) -> float:
        """The share of general rows that the job mixes into training."""
        return self.job.data.advanced.mix_fraction if self.job.data.mix_path else 0.0

    @property
    def num_train_samples(self) -> int:
        """Training samples, by the probes or the plan, else estimated from the audit and the split; 0 = unknown."""
        if self.probes is not None:
            return self.probes.num_train_samples
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

    def no_evaluation(self) -> str:
        """Why there is no evaluation to look at; "" where there is one."""
        if self.evaluation is not None:
            return ""
        return self.damaged.get(EvaluationRecord.file_name) or f"no evaluation yet: foretune evaluate {self.run_id}"

    def no_probes(self, *parts: str) -> str:
        """Why one of these parts of `evidence.json` is missing; "" where they are all there."""
        if self.probes is None:
            fix = f"foretune diagnose {self.run_id}"
            return self.damaged.get(EvidenceRecord.file_name) or f"the model was not probed: {fix}"
        for part in parts:
            value = getattr(self.probes, part)
            if value is None or value == ():
                return self.probes.not_measured.get(part, f"{part.replace('_', ' ')} was not measured")
        return ""

    def no_scores(self, *parts: str) -> str:
        """Why one of these scores cannot be judged; "" where they are all there and higher is better."""
        missing = self.no_probes(*parts)
        if missing or self.probes is None:
            return missing
        metric = self.probes.primary_metric
        return f"{metric} is a loss, and says nothing of right answers" if is_lower_better(metric) else ""

    def rate_against_usual(self) -> str:
        """One sentence: where the learning rate lies against the usual range; "" where settings are hidden."""
        if self.without_settings:
            return ""
        rate, (low, high) = self.learning_rate, self.usual_rates
        usual = f"the usual {low:g} to {high:g} for method {self.job.train.method}"
        if rate > high:
            return f"Learning rate {rate:g} is {rate / high:.3g} times the top of {usual}."
        if rate < low:
            return f"Learning rate {rate:g} is {low / rate:.3g} times below {usual}."
        return f"Learning rate {rate:g} lies within {usual}."


def gather(job: JobConfig, run_dir: Path) -> Evidence:
    """Read the run folder. Raises NotFound where it holds neither curve nor evaluation.

    A damaged `evaluation.json` or `evidence.json` counts as missing, with the reason in `damaged`; other damaged
    records raise DataError.
    """
    curves = read_curves(run_dir)
    evaluation, why_no_evaluation = sound_evaluation(run_dir)
    probes, why_no_probes = sound_probes(run_dir)
    reworded, why_not_reworded = sound_reworded(run_dir)
    damaged = {
        EvaluationRecord.file_name: why_no_evaluation,
        EvidenceRecord.file_name: why_no_probes,
        RewordedRecord.file_name: why_not_reworded,
    }
    if not curves.train and not curves.failure and evaluation is None and not why_no_evaluation:
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
        probes=probes,
        reworded=reworded,
        damaged={name: why for name, why in damaged.items() if why},
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
