"""Does the procedure name the right action: worlds with a known best action, of which it sees what a user measures.

`python benchmarks/run.py decision`; `python benchmarks/bench_decision.py dev` prints the development cases, on which
the procedure's thresholds were chosen. Figures are of the held-out cases: other seeds and other data sets.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from decision_tasks import real
from decision_worlds import Truth, World, seen, synthetic, truth_of

from foretune.evaluate.kinds import Asked, kind_shares, left_to_context
from foretune.plan.measurements import gather
from foretune.plan.procedure import procedure
from foretune.plan.project import Project
from foretune.plan.situation import Measured, Situation
from foretune.records.dataset import DatasetRecord, SplitInfo
from foretune.records.evaluation import MetricValue
from foretune.records.failures import FailuresRecord, Share
from foretune.records.learning_curve import CurvePart, LearningCurveRecord
from foretune.records.procedure import Measurements, ProcedureRecord
from foretune.stats.intervals import wilson
from foretune.stats.learning_curve import CurvePoint, curve_outlook
from foretune.stats.paired import compare_paired

SYNTHETIC = {"dev": (*range(288),), "held-out": (*range(3000, 3144), *range(4000, 4144))}
REAL = {"dev": (*range(100),), "held-out": (*range(3000, 3060), *range(4000, 4060))}
SLACK = 0.03  # how near a predicted score must be


class Case(NamedTuple):
    """One world, its truth and what the procedure said of what a user sees of it."""

    world: World
    truth: Truth
    record: ProcedureRecord
    later: float  # the score that training on twice the data then has on the same samples

    @property
    def is_right(self) -> bool:
        return self.record.action in self.truth.accepted

    @property
    def near(self) -> bool:
        """Whether the prompt alone is within two points of what training gives, and no cheaper query decides."""
        best = max(self.truth.scores["fine-tune"], self.truth.scores["fine-tune + RAG"])
        return self.truth.scores["prompt"] >= best - 0.02 and not self.truth.best.startswith("fine-tune")


def measured(world: World, seed: int) -> tuple[Measurements, float]:
    """What a user measures: the product's own arithmetic on the validation items; and the later score on them."""
    rng = np.random.default_rng([seed, 7])
    found = seen(world, rng)
    ids = [str(place) for place in range(world.num_validation)]
    failures = _failures(world, found, ids)
    curve = _curve(world, found, ids)
    size = SplitInfo(num_samples=world.num_validation, sha256="")
    splits = {"train": SplitInfo(num_samples=world.num_train, sha256=""), "validation": size, "test": size}
    dataset = DatasetRecord(version="", task="chat", sources=(), splits=splits)
    told = Situation(measured=Measured(target=world.target, human_agreement=world.agreement))
    project = Project(situation=told, stakes=world.stakes)
    m = gather(project, dataset=dataset, failures=failures, curve=curve)
    return m, float(found["tuned 2.0"].mean())


def _failures(world: World, found: dict[str, np.ndarray], ids: Sequence[str]) -> FailuresRecord:
    prompt = found["prompt"]
    failed = prompt < 1
    shares = kind_shares(
        Asked(
            prompt[failed],
            prompt[failed],
            found["format"][failed],
            found["context"][failed],
            found["placebo"][failed],
        )
    )
    gain = compare_paired(prompt, found["rag"]) if world.is_retrieval_measured else None
    return FailuresRecord(
        run_id="",
        base="",
        dataset_version="",
        metric="exact_match",
        prompt="",
        prompt_description="",
        num_prompts_tried=1,
        num_chosen_on=0,
        baseline=_metric(prompt),
        num_failures=int(failed.sum()),
        knowledge=shares.knowledge,
        format=shares.format,
        behaviour=shares.behaviour,
        placebo=shares.placebo,
        context_source="documents",
        retrieval_gain=None if gain is None else Share(value=gain.value, ci_low=gain.ci_low, ci_high=gain.ci_high),
        sample_scores=dict(zip(ids, prompt.tolist(), strict=True)),
        tuned_left=left_to_context(found["tuned 1.0"], found["tuned context"], found["tuned placebo"]),
    )


def _metric(scores: np.ndarray) -> MetricValue:
    one = wilson(int(scores.sum()), len(scores))
    return MetricValue(value=one.value, ci_low=one.low, ci_high=one.high, n=one.n, method="wilson")


def _curve(world: World, found: dict[str, np.ndarray], ids: Sequence[str]) -> LearningCurveRecord:
    parts, points = [], []
    for share in (0.1, 0.25, 0.5, 1.0):
        one = _metric(found[f"tuned {share}"])
        size = max(1, round(share * world.num_train))
        points.append(CurvePoint(size, one.value, one.n, one.ci_low, one.ci_high))
        parts.append(
            CurvePart(
                share=share,
                num_samples=size,
                score=one.value,
                ci_low=one.ci_low,
                ci_high=one.ci_high,
                n=one.n,
                run_id="",
            )
        )
    change = compare_paired(found["tuned 0.5"], found["tuned 1.0"])
    outlook = curve_outlook(points, (change.value, change.ci_low, change.ci_high))
    return LearningCurveRecord(
        run_id="",
        metric="exact_match",
        parts=tuple(parts),
        answer=outlook.answer,
        last_doubling_gain=outlook.gain,
        gain_low=change.ci_low,
        gain_high=change.ci_high,
        full_score=parts[-1].score,
        predicted_score=outlook.predicted,
        predicted_low=outlook.low,
        predicted_high=outlook.high,
        samples_for_margin=outlook.samples_for_margin,
        margin=0.02,
        advice="",
        sample_scores=dict(zip(ids, found["tuned 1.0"].tolist(), strict=True)),
    )


def cases(part: str) -> Iterator[Case]:
    """Every case of a part."""
    worlds = [(seed, synthetic(seed)) for seed in SYNTHETIC[part]]
    worlds += [(seed, world) for seed in REAL[part] if (world := real(seed)) is not None]
    for seed, world in worlds:
        m, later = measured(world, seed)
        yield Case(world, truth_of(world, seed), procedure(m), later)


def summary(found: Sequence[Case]) -> dict[str, Any]:
    """The figures of a part."""
    near = [case for case in found if case.near]
    wasted = sum(str(case.record.action).startswith("fine-tune") for case in near)
    right, strict = sum(case.is_right for case in found), sum(case.record.action == case.truth.best for case in found)
    curves = [case for case in found if case.record.measurements.curve is not None]
    misses = [abs(case.record.measurements.curve.predicted - case.later) for case in curves]  # type: ignore[union-attr]
    pool = [
        abs(case.record.measurements.curve.predicted - case.truth.scores["twice the data"])  # type: ignore[union-attr]
        for case in curves
        if case.world.noise == 0
    ]
    interval = wilson(right, len(found))
    return {
        "cases": len(found),
        "right_percent": _percent(right, len(found)),
        "right_95": [round(100 * interval.low, 1), round(100 * interval.high, 1)],
        "exactly_the_best_percent": _percent(strict, len(found)),
        "undecided": sum(case.record.action is None for case in found),
        "prompt_within_2_points": len(near),
        "fine_tune_there_percent": _percent(wasted, len(near)),
        "twice_data_within_3_points_percent": _percent(sum(miss <= SLACK for miss in misses), len(misses)),
        "twice_data_mean_error_points": round(100 * float(np.mean(misses)), 2),
        "twice_data_within_3_points_of_the_pool_percent": _percent(sum(miss <= SLACK for miss in pool), len(pool)),
        "mean_validation_samples": round(float(np.mean([case.world.num_validation for case in found]))),
        "mean_regret_points": round(100 * float(np.mean([_regret(case) for case in found])), 2),
        "by_source": _by(found, lambda case: case.world.source),
        "by_archetype": _by(found, lambda case: case.world.archetype),
        "confusion": _confusion(found),
    }


def _regret(case: Case) -> float:
    """Worth lost against the best action, in points; 0 for an accepted action."""
    worth = case.truth.worth
    if case.is_right or case.record.action is None:
        return 0.0
    return max(worth.values()) - worth.get(case.record.action, 0.0)


def _by(found: Sequence[Case], key: Any) -> dict[str, str]:
    names = Counter(key(case) for case in found)
    right = Counter(key(case) for case in found if case.is_right)
    return {name: f"{right[name]}/{count}" for name, count in sorted(names.items())}


def _confusion(found: Sequence[Case]) -> dict[str, dict[str, int]]:
    """Rows: the best action (the one that was said, where it is as good); columns: what was said."""
    rows: dict[str, Counter[str]] = {}
    for case in found:
        said = str(case.record.action)
        best = said if case.is_right else case.truth.best
        rows.setdefault(best, Counter())[said] += 1
    return {best: dict(row) for best, row in sorted(rows.items())}


def _percent(count: int, total: int) -> float:
    return round(100 * count / total, 1) if total else 0.0


def measure() -> dict[str, Any]:
    """Both parts; thresholds were chosen on `dev` alone."""
    return {"metrics": {part: summary(list(cases(part))) for part in ("dev", "held-out")}}


def main() -> None:
    """Print the parts named, with every wrong case."""
    warnings.simplefilter("ignore")
    for part in sys.argv[1:] or ("dev",):
        found = list(cases(part))
        for case in found:
            if not case.is_right:
                worth = {name: round(100 * value, 1) for name, value in case.truth.worth.items()}
                m = case.record.measurements
                print(case.world.name, "|", case.world.archetype, "| best", case.truth.best, worth)
                print("   n", case.world.num_validation, "power", round(case.truth.power, 2), "target", m.target)
                print(
                    "   said",
                    case.record.sentence,
                    "|",
                    {k: round(100 * v, 1) for k, v in case.record.expected.items()},
                )
        print(json.dumps(summary(found), indent=1))


if __name__ == "__main__":
    main()
