"""What the evaluation found: systems with intervals, general skills, confusions, and the prompts tried."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foretune.diagnose import is_lower_better
from foretune.records.evaluation import EvaluationRecord, JudgeResult, SkillScore, SystemResult
from foretune.records.ratings import RatingsRecord
from foretune.ui.charts import Scale, axis, change_bar, interval_bar, matrix_shades, scale_of
from foretune.ui.words import SYSTEMS, Measure, metric_name, plural, show_number, signed, system_name

__all__ = ["confusion_view", "prompt_rows", "skills_view", "systems_view", "why_no_skills"]

COLOURS = {"base_zero_shot": "zero", "base_few_shot": "prompted", "constant": "zero", "fine_tuned": "tuned"}
COLOURS |= {"base_retrieval": "prompted", "fine_tuned_8bit": "tuned", "fine_tuned_4bit": "tuned"}
SIDE_SYSTEMS = {
    "base_retrieval": "Base model, with documents",
    "fine_tuned_8bit": "Fine-tuned, 8 bits",
    "fine_tuned_4bit": "Fine-tuned, 4 bits",
}
FRACTION = Scale(0.0, 1.0, 0.2)
MOST_CLASSES = 12  # a larger confusion matrix becomes a list of the most frequent confusions
NUM_CONFUSIONS = 12
COUNTS = {1: "One", 2: "Two", 3: "Three", 4: "Four"}
MOST_COLUMN = 24  # characters of a class above its column
MOST_PROMPT = 240  # characters shown


@dataclass(frozen=True)
class SystemRow:
    """One system in the forest plot."""

    title: str
    note: str
    colour: str
    value: str
    interval: str
    bar: Markup


@dataclass(frozen=True)
class SystemsView:
    """The forest plot of the primary metric, the table of all metrics, and how each system was asked."""

    title: str
    metric: str
    rows: tuple[SystemRow, ...]
    axis: Markup
    columns: tuple[str, ...]
    table: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # metric, (value, interval) of each system
    asked: tuple[tuple[str, str], ...]
    visible: str
    human_eval_queue: int
    beside: tuple[str, ...] = ()  # what is shown and does not decide, a sentence each
    silent: tuple[tuple[str, str], ...] = ()  # systems that gave no answer, and why


def systems_view(evaluation: EvaluationRecord, ratings: RatingsRecord | None = None) -> SystemsView:
    """Every system with its interval on one scale, the best on the metric that decides first."""
    metric = evaluation.primary_metric
    measure = Measure(metric, evaluation)
    values = [system.metrics[metric] for system in evaluation.systems]
    scale = FRACTION if measure.is_fraction else scale_of(min(v.ci_low for v in values), max(v.ci_high for v in values))
    ranked = _ranked(evaluation.systems, measure)
    rows = tuple(_system_row(system, measure, scale) for system in ranked)
    return SystemsView(
        title=f"{COUNTS.get(len(rows), str(len(rows)))} systems on the same samples",
        metric=measure.name,
        rows=rows,
        axis=axis(scale, [f"{100 * t:.0f} %" if measure.is_fraction else show_number(t) for t in scale.ticks]),
        columns=tuple(_title(system) for system in ranked),
        table=_metric_table(evaluation, ranked),
        asked=tuple((_title(system), system.prompt) for system in ranked if system.prompt),
        visible=measure.change(evaluation.smallest_visible_difference).lstrip("+"),
        human_eval_queue=evaluation.human_eval_queue if ratings is None else 0,
        beside=(*_beside(evaluation, measure), *_people(ratings)),
        silent=tuple((_named(gap.system), gap.reason) for gap in evaluation.gaps),
    )


def _title(system: SystemResult) -> str:
    """A system in the words of the report; an endpoint by the name of its model, as the provider writes it."""
    return _named(system.name) if system.name.startswith("endpoint:") else _own(system)


def _named(name: str) -> str:
    kind, _, model = name.partition(":")
    return f"Endpoint {model}" if kind == "endpoint" else SIDE_SYSTEMS.get(name, name)


def _own(system: SystemResult) -> str:
    return SIDE_SYSTEMS.get(system.name) or system_name(system)


def _beside(evaluation: EvaluationRecord, measure: Measure) -> Iterator[str]:
    """Endpoints, quantised variants, similarity and the judge."""
    for claim in evaluation.claims:
        rival = _title(evaluation.system(claim.system))
        yield (
            f"Against {rival}: {claim.verdict.replace('_', ' ')}, {measure.change(claim.delta.value)}, "
            f"n = {claim.n:,}, p = {claim.p_adjusted:.2g} after Holm's correction."
        )
    yield from (f"Gate {gate.status}: {gate.reason}." for gate in evaluation.gates)
    if evaluation.similarity is not None:
        found = evaluation.similarity
        yield (
            f"Similarity to the targets {found.mean:.2f}, to other samples' targets {found.shuffled:.2f} "
            f"({found.embedder})."
        )
    if evaluation.judge is not None:
        yield _judge(evaluation.judge)


def _judge(judge: JudgeResult) -> str:
    name = f"The judge {judge.model}, which never decides"
    gap = f" {judge.gap[:1].upper()}{judge.gap[1:]}." if judge.gap else ""
    if not judge.n:
        return f"{name}: no pair was judged.{gap}"
    return (
        f"{name}: {judge.wins} for, {judge.losses} against, {judge.ties} equal; {judge.inconsistent} turned with the "
        f"order.{gap}"
    )


def _people(ratings: RatingsRecord | None) -> Iterator[str]:
    """What people said, blind, and how far they agree."""
    if ratings is None or not ratings.num_votes:
        return
    change = signed(f"{ratings.preference:+.2f} ({ratings.ci_low:+.2f} to {ratings.ci_high:+.2f})")
    needed = f" About {ratings.votes_needed:,} more pairs would settle it." if ratings.votes_needed else ""
    yield (
        f"People, blind: {ratings.verdict.replace('_', ' ')}; {plural(ratings.num_votes, 'vote')} of "
        f"{plural(len(ratings.raters), 'rater')} on {ratings.num_rated:,} of {ratings.num_pairs:,} pairs, "
        f"{ratings.wins} for, {ratings.losses} against, {ratings.ties} equal; preference {change}.{needed}"
    )
    if ratings.agreement_said:
        yield f"Agreement of the raters: {ratings.agreement_said}."


def _ranked(systems: Sequence[SystemResult], measure: Measure) -> tuple[SystemResult, ...]:
    """The best first, by the metric that decides and never by the loss (R267); equal ones stay in their order."""
    sign = 1 if measure.is_lower_better else -1
    return tuple(sorted(systems, key=lambda system: sign * system.metrics[measure.metric].value))


def _system_row(system: SystemResult, measure: Measure, scale: Scale) -> SystemRow:
    value = system.metrics[measure.metric]
    title, colour = _title(system), COLOURS.get(system.name, "zero")
    shown, interval = measure.value(value.value), measure.interval(value)
    label = f"{title}: {measure.name} {shown}, 95 % interval {interval}"
    return SystemRow(
        title=title,
        note=_note(system),
        colour=colour,
        value=shown,
        interval=interval,
        bar=interval_bar(scale, value.ci_low, value.value, value.ci_high, colour, label),
    )


def _note(system: SystemResult) -> str:
    notes = [f"{plural(system.num_shots, 'example')} in the prompt"] if system.num_shots else []
    notes += [f"{plural(system.num_missing, 'answer')} missing, not scored"] if system.num_missing else []
    return "; ".join(notes)


def _metric_table(
    evaluation: EvaluationRecord, systems: Sequence[SystemResult]
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    names = list(dict.fromkeys(name for system in systems for name in system.metrics))
    rows = []
    for name in names:
        measure = Measure(name, evaluation)
        cells = [system.metrics.get(name) for system in systems]
        shown = tuple(("–", "") if c is None else (measure.value(c.value), measure.interval(c)) for c in cells)
        rows.append((measure.name, shown))
    return tuple(rows)


@dataclass(frozen=True)
class SkillRow:
    """One general skill before and after."""

    skill: str
    metric: str
    before: str
    after: str
    change: str
    interval: str
    outcome: str  # lost, gained or kept
    bar: Markup | None


def skills_view(evaluation: EvaluationRecord) -> tuple[SkillRow, ...]:
    """General skills, losses first; a change counts where its interval excludes 0."""
    order = {"lost": 0, "gained": 1, "kept": 2}
    rows = [_skill_row(skill) for skill in evaluation.general_skills]
    return tuple(sorted(rows, key=lambda row: order[row.outcome]))


def why_no_skills(evaluation: EvaluationRecord) -> str:
    """The evaluation's own reason for not having measured general skills."""
    found = next((warning for warning in evaluation.warnings if warning.startswith("general skills were not")), "")
    return f"{found[:1].upper()}{found[1:] or 'General skills were not measured in this evaluation'}."


def _skill_row(skill: SkillScore) -> SkillRow:
    lower = is_lower_better(skill.metric)
    is_rate = not lower and max(skill.before, skill.after) <= 1
    sign = -1 if lower else 1
    ends = sorted((sign * skill.ci_low, sign * skill.ci_high))
    outcome = "lost" if ends[1] < 0 else "gained" if ends[0] > 0 else "kept"
    factor, unit = (100, " %") if is_rate else (1, "")
    digits = ".0f" if is_rate else ".3g"
    before, after = (f"{factor * value:{digits}}{unit}" for value in (skill.before, skill.after))
    change = signed(f"{factor * (skill.after - skill.before):+{digits}}")
    interval = signed(f"{factor * skill.ci_low:+{digits}} to {factor * skill.ci_high:+{digits}}")
    name = skill.skill.replace("_", " ")
    label = f"{name}: {before} before, {after} after"
    bar = change_bar(FRACTION, skill.before, skill.after, outcome, label) if is_rate else None
    return SkillRow(name, metric_name(skill.metric), before, after, change, interval, outcome, bar)


@dataclass(frozen=True)
class ConfusionView:
    """A matrix (rows expected, columns answered) with shades, or the most frequent confusions of many classes."""

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, float, bool], ...]], ...]  # label, (count, shade, is right)
    confusions: tuple[tuple[str, str, int], ...]


def confusion_view(evaluation: EvaluationRecord) -> ConfusionView | None:
    """The confusion matrix of the fine-tuned model; a column beyond the labels is "no class"."""
    confusion = evaluation.confusion
    if not confusion or not confusion.get("counts"):
        return None
    labels = tuple(str(label) for label in confusion["labels"])
    counts: list[list[int]] = confusion["counts"]
    if not any(row[len(labels) :] != [0] * (len(row) - len(labels)) for row in counts):
        counts = [row[: len(labels)] for row in counts]
    columns = (*map(_short, labels), *["no class"] * (len(counts[0]) - len(labels)))
    shades = matrix_shades(counts)
    wrong = [
        (labels[row], (*labels, *columns[len(labels) :])[column], count)
        for row, line in enumerate(counts[: len(labels)])
        for column, count in enumerate(line)
        if count and row != column
    ]
    rows = tuple(
        (
            label,
            tuple((count, shade, i == j) for j, (count, shade) in enumerate(zip(counts[i], shades[i], strict=True))),
        )
        for i, label in enumerate(labels)
    )
    return ConfusionView(
        labels=labels,
        columns=columns,
        rows=rows if len(labels) <= MOST_CLASSES else (),
        confusions=tuple(sorted(wrong, key=lambda item: -item[2])[:NUM_CONFUSIONS])
        if len(labels) > MOST_CLASSES
        else (),
    )


def _short(label: str) -> str:
    """A class as the head of a column."""
    return label if len(label) <= MOST_COLUMN else f"{label[: MOST_COLUMN - 1]}…"


@dataclass(frozen=True)
class PromptRow:
    """One prompt tried on validation samples."""

    prompt: str
    examples: str
    score: str
    interval: str
    chosen: str  # the system that it became, "" if none


def prompt_rows(evaluation: EvaluationRecord) -> tuple[PromptRow, ...]:
    """Every prompt tried, in the order tried."""
    measure = Measure(evaluation.primary_metric, evaluation)
    return tuple(_prompt_row(choice, measure) for choice in evaluation.prompt_choices)


def _prompt_row(choice: Mapping[str, Any], measure: Measure) -> PromptRow:
    low, high = choice.get("ci_low"), choice.get("ci_high")
    score, chosen = choice.get("score"), str(choice.get("chosen_as") or "")
    return PromptRow(
        prompt=_clipped(str(choice.get("prompt", choice.get("name", "")))),
        examples=str(choice.get("num_shots", "")),
        score="" if score is None else measure.value(score),
        interval="" if low is None or high is None else measure.span(low, high),
        chosen=SYSTEMS.get(chosen, chosen),
    )


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_PROMPT else f"{text[:MOST_PROMPT]} …"
