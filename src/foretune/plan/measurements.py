"""What the procedure looks at, gathered from the records of a run and from what the project file says."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from foretune.config.job import JobConfig
from foretune.plan.money import MoneyCase
from foretune.plan.project import Project
from foretune.plan.situation import Measured, Score, Situation
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FailuresRecord
from foretune.records.learning_curve import LearningCurveRecord
from foretune.records.procedure import Curve, Gain, Kinds, Measurements, Rate, Stakes
from foretune.records.run import ResolvedRecord, list_runs
from foretune.stats.paired import compare_paired

__all__ = ["borrow", "gather", "measured_in", "measured_run", "measured_situation"]

BORROWED = (FailuresRecord, LearningCurveRecord)
LEAST_PAIRED = 20  # samples that baseline and trained model share, for their difference to be taken


def gather(
    project: Project,
    *,
    dataset: DatasetRecord | None = None,
    failures: FailuresRecord | None = None,
    curve: LearningCurveRecord | None = None,
    training_usd: float = 0.0,
) -> Measurements:
    """Everything that is measured: records first, the project file's own figures where there is no record.

    `training_usd` is the predicted cost of a training, where the project file gives none.
    """
    told = project.situation.measured
    sizes = {} if dataset is None else {name: split.num_samples for name, split in dataset.splits.items()}
    labelled = sizes.get("validation", 0) + sizes.get("test", 0) if sizes else project.situation.num_test_examples
    prompted = _prompted(told, failures)
    return Measurements(
        num_labelled=labelled,
        num_test=(sizes.get("test") or sizes.get("validation")) if sizes else project.situation.num_test_examples,
        num_train=sizes.get("train") if sizes else project.situation.num_examples,
        human_agreement=told.human_agreement,
        target=told.target,
        ceiling=told.ceiling,
        prompted=prompted,
        kinds=_kinds(told, failures),
        format_gain=_told_gain(told.structured_output, told) if failures is None else None,
        retrieval_gain=_retrieval_gain(told, failures),
        tuned=_tuned(told, curve),
        tuned_gain=_tuned_gain(told, failures, curve),
        curve=None if curve is None else _curve(curve),
        stakes=_stakes(project, training_usd),
    )


def measured_in(run_dir: Path, project: Project, *, training_usd: float = 0.0) -> Measurements:
    """What the records of a run folder and the project file say. Raises DataError where a record is damaged."""
    return gather(
        project,
        dataset=DatasetRecord.read(run_dir) if DatasetRecord.exists(run_dir) else None,
        failures=FailuresRecord.read(run_dir) if FailuresRecord.exists(run_dir) else None,
        curve=LearningCurveRecord.read(run_dir) if LearningCurveRecord.exists(run_dir) else None,
        training_usd=training_usd,
    )


def measured_run(runs_dir: Path, job: JobConfig, *, version: str = "") -> Path | None:
    """The newest run of the same base, data and metric with measurements; None where nothing was measured.

    `version`: of the data set, where it is known; else the data's settings must be the same.
    """
    for folder in reversed(list_runs(runs_dir)):
        if any(kind.exists(folder) for kind in BORROWED) and _is_alike(folder, job, version):
            return folder
    return None


def _is_alike(folder: Path, job: JobConfig, version: str) -> bool:
    other = ResolvedRecord.read(folder).job
    same = other.get("base") == job.base and other.get("evaluate") == job.evaluate.model_dump(mode="json")
    if version:
        return same and DatasetRecord.exists(folder) and DatasetRecord.read(folder).version == version
    return same and other.get("data") == job.data.model_dump(mode="json")


def borrow(run_dir: Path, runs_dir: Path, job: JobConfig) -> Path | None:
    """Copy the measurements of an earlier run on the same data set into a run; the earlier run, if there is one.

    A learning curve only from a run with the same training settings.
    """
    if not DatasetRecord.exists(run_dir) or any(kind.exists(run_dir) for kind in BORROWED):
        return None
    earlier = measured_run(runs_dir, job, version=DatasetRecord.read(run_dir).version)
    if earlier is None:
        return None
    same_training = ResolvedRecord.read(earlier).job.get("train") == job.train.model_dump(mode="json")
    for kind in BORROWED:
        if kind.exists(earlier) and (kind is FailuresRecord or same_training):
            shutil.copyfile(earlier / kind.file_name, run_dir / kind.file_name)
    return earlier


def measured_situation(situation: Situation, m: Measurements) -> Situation:
    """The situation with what was measured in place of what it leaves open, for plan's advice."""
    told = situation.measured
    found: dict[str, object] = {}
    if m.prompted is not None and told.zero_shot is None and told.few_shot is None:
        rate = m.prompted
        found["few_shot"] = Score(value=rate.value, n=rate.n, low=rate.low, high=rate.high)
    if m.tuned is not None and told.fine_tuned is None:
        found["fine_tuned"] = Score(value=m.tuned.value, n=m.tuned.n, low=m.tuned.low, high=m.tuned.high)
    if m.kinds is not None:
        found |= {
            f"{kind}_share": share
            for kind in ("knowledge", "format", "behaviour")
            if (share := getattr(m.kinds, kind)) is not None and getattr(told, f"{kind}_share") is None
        }
    if m.curve is not None and told.last_doubling_gain is None:
        found["last_doubling_gain"] = m.curve.doubling_gain
    update: dict[str, object] = {"measured": told.model_copy(update=found)} if found else {}
    if situation.num_test_examples is None and m.num_labelled is not None and m.prompted is not None:
        update["num_test_examples"] = m.num_labelled
    return situation.model_copy(update=update)


def _prompted(told: Measured, failures: FailuresRecord | None) -> Rate | None:
    if failures is not None:
        return _rate_of_metric(failures.baseline)
    given = [score for score in (told.zero_shot, told.few_shot) if score is not None]
    return _rate(max(given, key=lambda score: score.value)) if given else None


def _rate(score: Score) -> Rate:
    """Without a number of samples the value stands for itself."""
    low, high = score.interval()
    return Rate(value=score.value, n=score.n or 1, low=low, high=high)


def _rate_of_metric(metric: MetricValue) -> Rate | None:
    if not metric.n or not 0 <= metric.value <= 1:
        return None
    low, high = max(0.0, metric.ci_low), min(1.0, metric.ci_high)
    return Rate(value=metric.value, n=metric.n, low=low, high=high)


def _kinds(told: Measured, failures: FailuresRecord | None) -> Kinds | None:
    if failures is not None and failures.behaviour is not None:
        return Kinds(
            num_failures=failures.num_failures,
            knowledge=failures.knowledge.value if failures.knowledge else None,
            format=failures.format.value if failures.format else None,
            behaviour=failures.behaviour.value,
            left_to_context=failures.tuned_left.value if failures.tuned_left else None,
        )
    if told.behaviour_share is None:
        return None
    prompted = _prompted(told, None)
    count = round((1 - prompted.value) * prompted.n) if prompted else 1
    return Kinds(
        num_failures=max(1, count),
        knowledge=told.knowledge_share,
        format=told.format_share,
        behaviour=told.behaviour_share,
    )


def _retrieval_gain(told: Measured, failures: FailuresRecord | None) -> Gain | None:
    if failures is None:
        return _told_gain(told.rag, told)
    gain = failures.retrieval_gain
    return None if gain is None else Gain(value=gain.value, low=gain.ci_low, high=gain.ci_high)


def _tuned(told: Measured, curve: LearningCurveRecord | None) -> Rate | None:
    if curve is not None:
        last = curve.parts[-1]
        return Rate(value=last.score, n=last.n, low=max(0.0, last.ci_low), high=min(1.0, last.ci_high))
    return _rate(told.fine_tuned) if told.fine_tuned is not None else None


def _tuned_gain(told: Measured, failures: FailuresRecord | None, curve: LearningCurveRecord | None) -> Gain | None:
    """The trained model less the prompted base: paired where both answered the same samples, else as if apart."""
    if failures is None or curve is None:
        return _told_gain(told.fine_tuned, told)
    ids = _shared(failures.sample_scores, curve.sample_scores)
    if len(ids) >= LEAST_PAIRED:
        before = [failures.sample_scores[name] for name in ids]
        after = [curve.sample_scores[name] for name in ids]
        is_binary = all(score in (0.0, 1.0) for score in (*before, *after))
        found = compare_paired(before, after, "binary" if is_binary else "graded")
        return Gain(value=found.value, low=found.ci_low, high=found.ci_high)
    prompted, tuned = _prompted(told, failures), _tuned(told, curve)
    return None if prompted is None or tuned is None else _apart(tuned, prompted)


def _told_gain(score: Score | None, told: Measured) -> Gain | None:
    prompted = _prompted(told, None)
    return None if score is None or prompted is None else _apart(_rate(score), prompted)


def _apart(rate: Rate, other: Rate) -> Gain:
    """Difference of two rates as if on different samples (Newcombe 1998, method 10): never too sure."""
    value = rate.value - other.value
    low = value - math.hypot(rate.value - rate.low, other.high - other.value)
    high = value + math.hypot(rate.high - rate.value, other.value - other.low)
    return Gain(value=value, low=low, high=high)


def _shared(first: Mapping[str, float], second: Mapping[str, float]) -> list[str]:
    return sorted(set(first) & set(second))


def _curve(record: LearningCurveRecord) -> Curve:
    return Curve(
        num_samples=record.parts[-1].num_samples,
        full_score=record.full_score,
        doubling_gain=record.last_doubling_gain,
        gain_low=record.gain_low,
        gain_high=record.gain_high,
        answer=record.answer,
        predicted=record.predicted_score,
        predicted_low=record.predicted_low,
        predicted_high=record.predicted_high,
        samples_for_margin=record.samples_for_margin,
    )


def _stakes(project: Project, training_usd: float) -> Stakes | None:
    """What the project file says of stakes; [money] and the forecast fill what it leaves open."""
    if project.stakes is None:
        return None
    known = _known_costs(project.money, training_usd) if project.money is not None else {"training_usd": training_usd}
    open_ones = {name: value for name, value in known.items() if name not in project.stakes.model_fields_set}
    return project.stakes.model_copy(update=open_ones)


def _known_costs(case: MoneyCase, training_usd: float) -> dict[str, float]:
    months_hours = case.hosting_usd_per_hour * case.hosting_hours_per_month
    return {
        "queries_per_month": case.queries_per_month,
        "usd_per_query": case.usd_per_query_now,
        "tuned_usd_per_query": case.usd_per_query_tuned,
        "hosting_usd_per_month": months_hours + case.upkeep_usd_per_month,
        "training_usd": case.training_usd or training_usd,
        "people_usd": case.spent_on_people,
        "label_usd_per_item": case.annotation_usd_per_item,
    }
