"""The top of the report: the verdict as one sentence, and predictions against what happened."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.records.evaluation import EvaluationRecord, SystemResult
from foretune.records.plan import Estimate, PlanRecord, Reconciliation
from foretune.ui.run_folder import RunFolder, read_run_folder
from foretune.ui.words import (
    QUANTITIES,
    Measure,
    plural,
    show_p_value,
    show_quantity,
    show_span,
    system_name,
)

__all__ = ["Headline", "Prediction", "headline", "predictions", "report_summary"]

LABELS = {
    "better": "Better",
    "not_better": "Not better",
    "worse": "Worse",
    "inconclusive": "Not proven",
}


@dataclass(frozen=True)
class Headline:
    """The first thing read. `parts` are pieces of the sentence, each with whether it is stressed."""

    verdict: str  # better, not_better, worse, inconclusive, failed or open
    label: str
    parts: tuple[tuple[str, bool], ...]
    reason: str
    facts: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict as one sentence."""
        return "".join(text for text, _ in self.parts)


def headline(run: RunFolder) -> Headline:
    """The verdict where there is one, else how far the run has come."""
    if run.evaluation is not None:
        return _judged(run.evaluation)
    if run.state == "failed" or run.curves.error:
        step = run.curves.last_step
        text = f"Training failed after {plural(step, 'step')}: {run.curves.failure or run.curves.error}"
        return Headline("failed", "Failed", ((text.rstrip(".") + ".", False),), run.curves.fix)
    text, command = {
        "created": ("Not trained yet.", "foretune train job.toml"),
        "training": ("Training is under way.", f"foretune runs watch {run.run_id}"),
        "stopped": ("Training was stopped and can go on.", f"foretune runs resume {run.run_id}"),
        "interrupted": ("Training was interrupted and can go on.", f"foretune runs resume {run.run_id}"),
    }.get(run.state, ("Trained, not judged yet.", f"foretune evaluate {run.run_id}"))
    return Headline("open", "No verdict", ((text, False),), f"Next: {command}")


def _judged(evaluation: EvaluationRecord) -> Headline:
    measure = Measure(evaluation.primary_metric, evaluation)
    texts = {"better": _better, "worse": _worse, "not_better": _not_better, "inconclusive": _inconclusive}
    return Headline(
        verdict=evaluation.verdict,
        label=LABELS[evaluation.verdict],
        parts=texts[evaluation.verdict](evaluation, measure),
        reason=evaluation.reason,
        facts=(
            f"{evaluation.split.capitalize()} split, {plural(evaluation.n, 'sample')}, the same for every system",
            f"{show_p_value(evaluation.delta.p_value)}, {evaluation.delta.method}",
            "First look at this split" if evaluation.look == 1 else f"Look {evaluation.look} at this split",
        ),
    )


Parts = tuple[tuple[str, bool], ...]


PROMPTED = "best prompt"


@dataclass(frozen=True)
class _Ends:
    """Baseline, candidate and change as text. For a metric of which less is better the change is what was gained."""

    before: str
    after: str
    moved: str
    gain: str
    interval: str
    baseline: str  # "best prompt", "base model" where prompts play no part, or "most frequent answer"
    against: str


def _ends(evaluation: EvaluationRecord, measure: Measure) -> _Ends:
    metric, delta = evaluation.primary_metric, evaluation.delta
    names = (evaluation.baseline, evaluation.candidate)
    before, after = (evaluation.system(name).metrics[metric].value for name in names)
    change = measure.change(delta.value)
    words = "most frequent answer" if evaluation.baseline == "constant" else PROMPTED
    words = "base model" if measure.is_lower_better else words
    return _Ends(
        before=measure.value(before),
        after=measure.value(after),
        moved="rose" if after > before else "fell" if after < before else "went",
        gain=f"gain {change}" if measure.is_lower_better else change,
        interval=f"({evaluation.confidence_percent:g} % interval {measure.change_interval(delta)})",
        baseline=words,
        against=f"with the {words}" if words == PROMPTED else f"for the {words}",
    )


def _moved(opening: str, evaluation: EvaluationRecord, measure: Measure) -> Parts:
    ends = _ends(evaluation, measure)
    return (
        (f"{opening}: {measure.name} {ends.moved} from {ends.before} ({ends.baseline}) to ", False),
        (ends.after, True),
        (", ", False),
        (ends.gain, True),
        (f" {ends.interval}.", False),
    )


def _better(evaluation: EvaluationRecord, measure: Measure) -> Parts:
    return _moved("Fine-tuning helped", evaluation, measure)


def _worse(evaluation: EvaluationRecord, measure: Measure) -> Parts:
    return _moved("Fine-tuning made it worse", evaluation, measure)


def _not_better(evaluation: EvaluationRecord, measure: Measure) -> Parts:
    ends = _ends(evaluation, measure)
    text = f"{measure.name} is {ends.after} against {ends.before} {ends.against}, {ends.gain} {ends.interval}."
    return (("Fine-tuning did not help: ", False), (text, False))


def _inconclusive(evaluation: EvaluationRecord, measure: Measure) -> Parts:
    if evaluation.n == 0:
        return (("Not judged: there are no test samples.", False),)
    ends = _ends(evaluation, measure)
    said = f"{measure.name} is {ends.after} against {ends.before} {ends.against}, {ends.gain}, but the "
    opening = f"Not proven either way: {said}{ends.interval[1:-1]} leaves it open."
    if evaluation.n_needed is None:
        return ((opening, False),)
    needed = (f"About {evaluation.n_needed:,} test samples", True)
    return ((f"{opening} ", False), needed, (f" would settle it; this test had {evaluation.n:,}.", False))


@dataclass(frozen=True)
class Prediction:
    """One quantity: what was predicted, what happened (None before), and whether the interval held."""

    quantity: str
    predicted: Estimate
    actual: float | None

    @property
    def title(self) -> str:
        """The quantity's name."""
        return QUANTITIES.get(self.quantity, self.quantity.replace("_", " "))

    @property
    def held(self) -> bool | None:
        """Whether what happened lies in the predicted interval; None before."""
        return None if self.actual is None else self.predicted.holds(self.actual)

    @property
    def shown(self) -> str:
        """The actual value where there is one, else the expected one."""
        return show_quantity(self.quantity, self.predicted.expected if self.actual is None else self.actual)

    @property
    def span(self) -> str:
        """The predicted interval."""
        return show_span(self.quantity, self.predicted.low, self.predicted.high)

    @property
    def sentence(self) -> str:
        """`predicted 58-71 s, took 66 s: held`."""
        if self.actual is None:
            return f"predicted {self.span}"
        return f"predicted {self.span}, was {self.shown}: {'held' if self.held else 'missed'}"


def predictions(run: RunFolder) -> tuple[Prediction, ...]:
    """Time, memory and cost: reconciled where training has ended, else as planned."""
    if run.training is not None and run.training.reconciliation:
        return tuple(_reconciled(item) for item in run.training.reconciliation)
    return _planned(run.plan) if run.plan is not None else ()


def _reconciled(item: Reconciliation) -> Prediction:
    return Prediction(item.quantity, item.predicted, item.actual)


def _planned(plan: PlanRecord) -> tuple[Prediction, ...]:
    return (
        Prediction("train_seconds", plan.train_seconds, None),
        Prediction("peak_memory_gb", plan.peak_memory_gb, None),
        Prediction("cost_usd", plan.cost_usd, None),
    )


def report_summary(run_dir: str | Path) -> dict[str, Any]:
    """The numbers of the top of the report as plain JSON values; what is not known yet is None or empty."""
    run = read_run_folder(run_dir)
    top = headline(run)
    return {
        "run_id": run.run_id,
        "state": run.state,
        "verdict": run.evaluation.verdict if run.evaluation else None,
        "headline": top.sentence,
        "reason": top.reason,
        **_evaluation_numbers(run.evaluation),
        "predictions": [_prediction_numbers(prediction) for prediction in predictions(run)],
        "diagnosis": None if run.diagnosis is None else [cause.mode for cause in run.diagnosis.causes],
        "warnings": len(run.problems) + _num_warnings(run),
    }


def _evaluation_numbers(evaluation: EvaluationRecord | None) -> dict[str, Any]:
    if evaluation is None:
        return {"metric": None, "n": None, "split": None, "systems": [], "delta": None, "n_needed": None}
    metric = evaluation.primary_metric
    return {
        "metric": metric,
        "n": evaluation.n,
        "split": evaluation.split,
        "systems": [_system_numbers(system, metric) for system in evaluation.systems],
        "delta": evaluation.delta.model_dump(),
        "n_needed": evaluation.n_needed,
    }


def _system_numbers(system: SystemResult, metric: str) -> dict[str, Any]:
    value = system.metrics[metric]
    return {
        "name": system.name,
        "title": system_name(system),
        "value": value.value,
        "ci_low": value.ci_low,
        "ci_high": value.ci_high,
    }


def _prediction_numbers(prediction: Prediction) -> dict[str, Any]:
    return {
        "quantity": prediction.quantity,
        **prediction.predicted.model_dump(),
        "actual": prediction.actual,
        "held": prediction.held,
        "sentence": f"{prediction.title}: {prediction.sentence}",
    }


def _num_warnings(run: RunFolder) -> int:
    records = (run.plan, run.dataset, run.training, run.evaluation)
    return sum(len(record.warnings) for record in records if record is not None)
