"""The systems side by side on the test samples: metrics with intervals, the paired difference, what people may rate."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from foretune.data.samples import Sample
from foretune.evaluate.beside import Beside, beside, similarity_of
from foretune.evaluate.case import Case, HeldOut
from foretune.evaluate.guards import guard_margins, judged_guards
from foretune.evaluate.hosted import HOSTED
from foretune.evaluate.judge import Judged
from foretune.evaluate.metrics import EXACT_MATCH, Scoring
from foretune.evaluate.scorers.classification import Labels, class_report
from foretune.evaluate.scorers.table import Metric, ScoreTable, compare_scores, paired_rows, unscored_words
from foretune.evaluate.systems import FINE_TUNED, System
from foretune.records.evaluation import Answer, Delta, MetricValue, NoisyScore, Similarity, SystemResult
from foretune.stats.paired import PairedResult
from foretune.stats.power import Spread, samples_needed
from foretune.stats.verdict import Noninferiority, Verdict, verdict

__all__ = ["WITHHELD", "Comparison", "Judgement", "compare_answers", "judge", "unjudged", "unknown_label_warnings"]

# What is assumed of a test split that is not there: systems that differ on a fifth of the samples, ten points apart.
USUAL_DISCORDANCE = Spread("discordance", 0.2)
USUAL_DIFFERENCE = 0.1
MOST_UNSCORED = 0.05  # of the samples that may lack a score before the verdict is withheld
WITHHELD = "No verdict: "  # begins the reason of such a verdict


class Judgement(NamedTuple):
    """The difference of candidate and baseline on the primary metric, and what follows from it."""

    delta: Delta
    smallest_visible_difference: float
    n_needed: int | None
    verdict: Verdict


class Comparison(NamedTuple):
    """All that the test samples say."""

    systems: tuple[SystemResult, ...]
    baseline: str
    judgement: Judgement
    answers: list[Answer]
    human_queue: list[dict[str, str]]
    confusion: dict[str, Any] | None = None
    exact_match_rate: float | None = None
    noisy: tuple[NoisyScore, ...] = ()
    similarity: Similarity | None = None
    beside: Beside = Beside()
    judged: Judged | None = None


def compare_answers(
    case: Case, scoring: Scoring, systems: Sequence[System], baseline: str, test: HeldOut
) -> Comparison:
    """Score the answers of every system and compare the fine-tuned model with the baseline on the primary metric.

    Systems with gaps are scored on what they answered; systems without any answer are gaps and no systems.
    """
    if not test.samples:
        empty = tuple(_result(system, _no_metrics(scoring.names)) for system in systems)
        return Comparison(empty, baseline, unjudged(), [], [])
    tuned = next(system for system in systems if system.name == FINE_TUNED)
    heard = [system for system in systems if system.answered]
    tables = {system.name: _scored(scoring, system, test) for system in heard}
    margin = case.job.evaluate.advanced.margin
    case.warnings += unscored_words(tables)
    case.warnings += _all_equal_warnings(scoring.primary, tables)
    return Comparison(
        systems=tuple(_result(system, tables[system.name].metrics, _hour_usd(case)) for system in heard),
        baseline=baseline,
        judgement=_judged(scoring.primary, tables[baseline], tables[FINE_TUNED], test, margin, guard_margins(case.job)),
        answers=[answer for system in heard for answer in _answers(system, tables[system.name], test.samples)],
        human_queue=[_queued(sample, text) for sample, text in zip(test.samples, tuned.predictions, strict=True)],
        confusion=_confusion(scoring, tuned.predictions, test.targets),
        exact_match_rate=tables[FINE_TUNED].metrics[EXACT_MATCH].value,
        similarity=similarity_of(scoring, tuned.predictions, test.targets),
        beside=beside(case, scoring, tuned, systems, baseline, test),
    )


def _scored(scoring: Scoring, system: System, test: HeldOut) -> ScoreTable:
    """The scores of the answers that are there; a missing one is scored nowhere, least of all 0."""
    rows = system.answered
    return scoring.score([system.predictions[row] for row in rows], [test.targets[row] for row in rows])


def _all_equal_warnings(metric: str, tables: Mapping[str, ScoreTable]) -> list[str]:
    """What to say where every answer of every system has the same score, so that nothing is told apart."""
    found = {float(score) for table in tables.values() for score in table.scores.get(metric, ()) if score == score}
    if len(found) != 1 or any(metric not in table.scores for table in tables.values()):
        return []
    return [
        f"{metric} is {found.pop():g} for every answer of every system, so it tells none apart; is it the metric of "
        "this task, and do the answers have the form it reads (answers.jsonl)?"
    ]


def _judged(
    metric: str, baseline: ScoreTable, tuned: ScoreTable, test: HeldOut, margin: float, guarded: dict[str, float]
) -> Judgement:
    """The judgement on the samples that both systems have a score for; none where too many have not."""
    num_lacking = int((~paired_rows(metric, baseline, tuned)).sum())
    if num_lacking == tuned.n:
        return without_verdict(unjudged(), metric, num_lacking, tuned.n)
    result = compare_scores(metric, baseline, tuned, groups=test.groups, look=test.look, margin=margin)
    guards = judged_guards(guarded, baseline, tuned, groups=test.groups, look=test.look)
    said = judge(result, margin, guards)
    if not num_lacking:
        return said
    if num_lacking > MOST_UNSCORED * tuned.n:
        return without_verdict(said, metric, num_lacking, tuned.n)
    told = f"{said.verdict.reason} {metric} gave no score for {num_lacking} of {tuned.n} samples; they are left out."
    return said._replace(verdict=said.verdict._replace(reason=told))


def without_verdict(said: Judgement, metric: str, num_lacking: int, num_samples: int) -> Judgement:
    """The same figures, and no verdict: what is missing could turn it."""
    reason = (
        f"{WITHHELD}{metric} gave no score for {num_lacking} of {num_samples} samples, more than "
        f"{MOST_UNSCORED:.0%}; mend it and evaluate again, the answers are kept."
    )
    return said._replace(n_needed=None, verdict=Verdict("inconclusive", reason))


def _hour_usd(case: Case) -> float:
    return case.job.plan.price_per_hour_usd


def judge(result: PairedResult, margin: float, guards: Sequence[Noninferiority] = ()) -> Judgement:
    """The difference and its verdict; a gain counts where every guard metric is proven to hold."""
    said = verdict(result, margin, guards)
    if guards and said.value == "better":
        said = said._replace(reason=f"{said.reason} {'; '.join(guard.reason for guard in guards)}.")
    delta = Delta(
        value=result.value, ci_low=result.ci_low, ci_high=result.ci_high, p_value=result.p_value, method=result.method
    )
    return Judgement(delta, result.smallest_visible_difference, said.n_needed, said)


def unjudged() -> Judgement:
    """The judgement on no samples: nothing is known, with the number of samples that could tell something."""
    needed = samples_needed(USUAL_DISCORDANCE, USUAL_DIFFERENCE)
    reason = (
        f"There are no test samples, so nothing can be said; about {needed} of them would show a difference of "
        f"{USUAL_DIFFERENCE:.0%}."
    )
    delta = Delta(value=0.0, ci_low=-1.0, ci_high=1.0, p_value=1.0, method="no samples")
    return Judgement(delta, 1.0, needed, Verdict("inconclusive", reason, needed))


def unknown_label_warnings(scoring: Scoring, test: HeldOut) -> list[str]:
    """What to say of test samples whose label training never saw."""
    unknown = scoring.unknown_labels(test.targets)
    if not unknown:
        return []
    count = sum(target.strip() in unknown for target in test.targets)
    shown = ", ".join(sorted(unknown)[:5])
    return [f"{count} test samples have a label that training never saw ({shown}): no system can learn it"]


def _result(system: System, metrics: Mapping[str, Metric | MetricValue], usd_per_hour: float = 0.0) -> SystemResult:
    seconds = [system.answer_seconds[place] for place in system.answered] if system.answer_seconds else []
    return SystemResult(
        name=system.name,
        prompt=system.prompt,
        num_shots=system.num_shots,
        metrics={name: _value(metric) for name, metric in metrics.items()},
        seconds=system.seconds,
        generated_tokens=system.generated_tokens,
        seconds_per_answer=median(seconds) if seconds else None,
        cost_usd=_cost_usd(system, usd_per_hour),
        num_missing=len(system.missing),
        gap=system.gap,
    )


def _cost_usd(system: System, usd_per_hour: float) -> float | None:
    """What the answers cost: as billed, or this machine's time; None where no price is known."""
    if system.answer_costs_usd:
        billed = [cost for cost in system.answer_costs_usd if cost is not None]
        return sum(billed) if len(billed) >= len(system.answered) else None
    if system.name.startswith(HOSTED) or not usd_per_hour:
        return None
    return system.seconds / 3600 * usd_per_hour


def _value(metric: Metric | MetricValue) -> MetricValue:
    if isinstance(metric, MetricValue):
        return metric
    method = f"{metric.method}, {metric.signature}" if metric.signature else metric.method
    return MetricValue(value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n, method=method)


def _no_metrics(names: Sequence[str]) -> dict[str, MetricValue]:
    return {name: MetricValue(value=0.0, ci_low=0.0, ci_high=1.0, n=0, method="no samples") for name in names}


def _answers(system: System, table: ScoreTable, samples: Sequence[Sample]) -> list[Answer]:
    return [
        Answer(
            sample_id=samples[place].id,
            system=system.name,
            place=samples[place].place,
            messages=tuple(message.to_json() for message in samples[place].prompt),
            prediction=system.predictions[place],
            expected=samples[place].target,
            scores=table.of_sample(row),
            unscored=table.unscored_of(row),
            seconds=system.answer_seconds[place] if system.answer_seconds else None,
            cost_usd=system.answer_costs_usd[place] if system.answer_costs_usd else None,
        )
        for row, place in enumerate(system.answered)
    ]


def _queued(sample: Sample, prediction: str) -> dict[str, str]:
    return {"input": sample.input_text, "prediction": prediction, "expected": sample.target}


def _confusion(scoring: Scoring, predictions: Sequence[str], targets: Sequence[str]) -> dict[str, Any] | None:
    """Rows are targets, columns answers; the last column counts answers that are no label."""
    if scoring.labels is None:
        return None
    labels = Labels.of([*scoring.labels, *sorted(scoring.unknown_labels(targets))])
    report = class_report(predictions, targets, labels)
    return {"labels": list(report.labels), "counts": report.counts.tolist()}
