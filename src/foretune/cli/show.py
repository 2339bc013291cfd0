"""Records as tables and lines for a terminal of 80 columns; no maths beyond rounding."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from foretune.cli.beside_shown import beside_shown
from foretune.cli.tables import facts_table, plain_table, system_name, warning_lines
from foretune.records.audit import AuditRecord, Finding
from foretune.records.base import Record
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord, SystemResult
from foretune.records.failures import FailuresRecord
from foretune.records.parity import ParityRecord
from foretune.records.plan import PlanRecord
from foretune.records.training import TrainingRecord
from foretune.units import show_bytes, show_count, show_range, show_seconds, show_usd

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from foretune.api import RunInfo

__all__ = [
    "audit_shown",
    "diagnosis_shown",
    "evaluation_shown",
    "facts_table",
    "fields_table",
    "one_line",
    "plain_table",
    "plan_shown",
    "runs_table",
    "settings_table",
    "sparkline",
    "training_shown",
    "warning_lines",
]

SEVERITY_STYLE = {"error": "red", "warning": "yellow", "info": "cyan"}
VERDICT_STYLE = {"better": "bold green", "worse": "bold red", "not_better": "bold yellow", "inconclusive": "bold cyan"}
QUANTITIES = {
    "train_seconds": "training",
    "total_seconds": "all in all",
    "peak_memory_gb": "peak memory",
    "cost_usd": "cost",
}
BLOCKS = "▁▂▃▄▅▆▇█"
WIDE_METRICS = 3  # that have room beside names of so many characters in 80 columns
WIDE_NAME = 16


# --- config ---------------------------------------------------------------------------------------------------------


def fields_table() -> Group:
    """Every field of the job file with its default, and below it what it is; names are typed again, so never cut."""
    from rich.console import Group

    from foretune.config import JobConfig

    lines: list[RenderableType] = []
    for name, default, description in _fields(JobConfig, ""):
        lines += [f"{name} = {default}", Padding(description, (0, 0, 0, 4))]
    return Group(*lines)


def _fields(model: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, info in model.model_fields.items():
        inner = info.annotation
        if hasattr(inner, "model_fields"):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", escape(shown_value(info.default)), escape(info.description or "")


def settings_table(values: Mapping[str, Any], origins: Mapping[str, str] | None) -> Table:
    """Settings with their values, and where each comes from."""
    table = plain_table("setting", "value", *(["from"] if origins is not None else []))
    for name, value in values.items():
        cells = [name, escape(shown_value(value))]
        if origins is not None:
            origin = origins.get(name, "default")
            cells.append(f"[dim]{origin}[/]" if origin == "default" else f"[bold]{origin}[/]")
        table.add_row(*cells)
    return table


def shown_value(value: Any) -> str:
    """A setting as it would stand in the job file."""
    from foretune.config.write import toml_value

    return toml_value(value)


# --- stages ---------------------------------------------------------------------------------------------------------


def one_line(record: Record) -> str:
    """What a stage found, in one line."""
    if isinstance(record, DatasetRecord):
        sizes = ", ".join(f"{name} {split.num_samples:,}" for name, split in record.splits.items())
        aside = f", {_plural(record.num_rejected, 'faulty row')} put aside" if record.num_rejected else ""
        return f"{record.task}: {sizes} samples{aside}"
    if isinstance(record, AuditRecord):
        count = {kind: sum(f.severity == kind for f in record.findings) for kind in ("error", "warning", "info")}
        notes = _plural(count["info"], "note")
        return f"{_plural(count['error'], 'error')}, {_plural(count['warning'], 'warning')}, {notes}"
    if isinstance(record, PlanRecord):
        seconds, memory = record.train_seconds, record.peak_memory_gb.expected
        cost = f", {show_usd(record.cost_usd.expected)}" if record.price_per_hour_usd else ""
        return f"training will take {show_range(seconds.low, seconds.high)}, {memory:.1f} GB{cost}"
    if isinstance(record, TrainingRecord):
        return f"{_plural(record.num_steps, 'step')}, {record.stop_reason.replace('_', ' ')}, {_best_loss(record)}"
    if isinstance(record, EvaluationRecord):
        return f"{_verdict(record)}, {record.primary_metric} {_delta(record)} against {_baseline(record)}"
    if isinstance(record, DiagnosisRecord):
        return ", ".join(cause.mode.replace("_", " ") for cause in record.roots) or "nothing found"
    if isinstance(record, FailuresRecord):
        return f"prompted base {record.baseline.value:.1%} of {record.baseline.n:,}, {record.num_failures:,} failures"
    return type(record).file_name


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _best_loss(record: TrainingRecord) -> str:
    if record.best_eval_loss is None:
        return f"loss {record.final_train_loss:.3f}"
    return f"best eval loss {record.best_eval_loss:.3f} at step {record.best_step}"


def audit_shown(record: AuditRecord) -> list[RenderableType]:
    """Findings, worst first, with places and fixes, and the token counts."""
    shown: list[RenderableType] = [f"[bold]{record.num_samples:,} samples[/], dataset {record.dataset_version[:12]}"]
    for finding in record.findings:
        shown.extend(_finding_lines(finding))
    if not record.findings:
        shown.append("[green]nothing found[/]")
    if record.tokens:
        table = plain_table("split", ">mean tokens", ">p95", ">longest", ">answer mean", ">cut off")
        for split, stats in record.tokens.items():
            cut = f"{stats.truncated_fraction:.1%}"
            table.add_row(
                split, f"{stats.mean:.0f}", f"{stats.p95:.0f}", str(stats.max), f"{stats.answer_mean:.0f}", cut
            )
        shown.extend(["", table])
    if record.examples:
        shown.extend(["", "[bold]as the model sees it[/] (what is learnt stands in ⟦ ⟧)"])
        shown.extend(escape(example) for example in record.examples[:2])
    return shown


def _finding_lines(finding: Finding) -> Iterator[str]:
    style = SEVERITY_STYLE[finding.severity]
    sure = f", about {finding.certainty:.0%} of them truly wrong" if finding.certainty < 0.995 else ""
    rows = f" ({finding.count:,} rows{sure})" if finding.count > 1 else ""
    yield f"[{style}]{finding.severity:7}[/] {finding.id} {escape(finding.title)}{rows}"
    if finding.places:
        more = f" and {finding.count - 5:,} more" if finding.count > 5 else ""
        yield f"        [dim]at[/] {escape(', '.join(finding.places[:5]))}{more}"
    for line in finding.evidence[:3]:
        yield f"        [dim]{escape(line)}[/]"
    if finding.fix:
        yield f"        [dim]fix[/] {escape(finding.fix)}"


def plan_shown(record: PlanRecord) -> list[RenderableType]:
    """The prediction: what, how long, how much memory, what it costs, and what that rests on."""
    share = record.trainable_parameters / max(1, record.total_parameters)
    train, total, memory = record.train_seconds, record.total_seconds, record.peak_memory_gb
    facts = {
        "base": f"{record.base}, {show_count(record.total_parameters)} parameters",
        "method": f"{record.method}, {show_count(record.trainable_parameters)} trainable ({share:.2%})",
        "data": f"{record.num_train_samples:,} samples, {show_count(record.num_train_tokens)} tokens an epoch",
        "steps": f"{record.num_steps:,} of {record.micro_batch_size} x {record.grad_accum_steps} samples, "
        f"rows up to {record.max_seq_len} tokens",
        **_test_fact(record),
        "device": record.device,
        "training": show_range(train.low, train.high),
        "all in all": f"{show_range(total.low, total.high)} with loading, validation and evaluation",
        "peak memory": f"{memory.low:.2f}-{memory.high:.2f} GB of {record.available_memory_gb:.1f} GB free",
        "disk": show_bytes(record.disk_bytes),
        "cost": _cost(record),
        "measured": "real steps on this machine" if record.probed else "no: --probe measures a few real steps here",
    }
    shown: list[RenderableType] = [facts_table(facts), "", _memory_table(record)]
    if not record.fits:
        shown.append("[bold red]It does not fit.[/]")
    return [*shown, *warning_lines(record.warnings), *[f"[dim]assumed: {escape(a)}[/]" for a in record.assumptions]]


def _test_fact(record: PlanRecord) -> dict[str, str]:
    """How small a difference the test split will show; nothing where nothing is answered."""
    if not record.num_test_samples or record.smallest_visible_difference is None:
        return {}
    points = 100 * record.smallest_visible_difference
    return {"test": f"{record.num_test_samples:,} samples: below about {points:.0f} points most gains go unseen"}


def _cost(record: PlanRecord) -> str:
    if not record.price_per_hour_usd:
        return "nothing (plan.price_per_hour_usd is 0)"
    cost = record.cost_usd
    return f"{show_usd(cost.low)} to {show_usd(cost.high)} at {show_usd(record.price_per_hour_usd)} an hour"


def _memory_table(record: PlanRecord) -> Table:
    table = plain_table("memory for", ">size")
    for name, size in sorted(record.memory_components.items(), key=lambda item: -item[1]):
        table.add_row(name.replace("_", " ").removesuffix(" bytes"), show_bytes(size))
    return table


def training_shown(record: TrainingRecord, *, with_warnings: bool = True) -> list[RenderableType]:
    """What training did, its curve, and the prediction against what it took; notes and warnings unless told before."""
    from foretune.plan.reconcile import outcome_sentence

    facts = {
        "steps": f"{record.num_steps:,} of {record.planned_steps:,} ({record.stop_reason.replace('_', ' ')})",
        "loss": _best_loss(record),
        "speed": f"{record.tokens_per_second:,.0f} tokens/s",
        "took": show_seconds(record.seconds),
        "artefact": record.artefact,
        **({"checked": _parity(record.parity)} if record.parity is not None else {}),
    }
    shown: list[RenderableType] = [facts_table(facts)]
    if len(record.train_curve) > 1:
        shown.append(f"[dim]train loss[/] {sparkline([point.loss for point in record.train_curve])}")
    if len(record.eval_curve) > 1:
        shown.append(f"[dim]eval loss [/] {sparkline([point.loss for point in record.eval_curve])}")
    for item in record.reconciliation:
        name = QUANTITIES.get(item.quantity, item.quantity)
        style = "green" if item.held else "yellow"
        shown.append(f"[dim]{name:11}[/] [{style}]{escape(outcome_sentence(item))}[/]")
    if with_warnings:
        shown += [*[f"[dim]{escape(note)}[/]" for note in record.notes], *warning_lines(record.warnings)]
    return shown


def _parity(record: ParityRecord) -> str:
    """The forms of the artefact that answer as the model in memory did, and those that do not."""
    held, odd = ([one.form for one in record.forms if one.holds == wanted] for wanted in (True, False))
    said = [f"{', '.join(held)}: as trained"] if held else []
    return "; ".join([*said, *([f"{', '.join(odd)}: not as trained"] if odd else [])]) or "nothing to compare"


def evaluation_shown(record: EvaluationRecord) -> list[RenderableType]:
    """The verdict first, then the systems with intervals, what it rests on, and what never decides."""
    every = list(dict.fromkeys([record.primary_metric, *(n for s in record.systems for n in s.metrics)]))
    widest = max((len(system_name(system.name)) for system in record.systems), default=0)
    names = every[: WIDE_METRICS if widest <= WIDE_NAME else WIDE_METRICS - 1]
    table = plain_table("system", *[f">{name}" for name in names])
    for system in record.systems:
        table.add_row(_answered(system), *[_metric(system, name) for name in names])
    for gap in record.gaps:
        table.add_row(escape(system_name(gap.system)), *["[yellow]no answer[/]" for _ in names])
    shown: list[RenderableType] = [
        f"{_verdict(record)}: {escape(record.reason)}",
        "",
        table,
        "",
        *_asked(record),
        f"difference on {record.primary_metric}: {_delta(record)}, n = {record.n}, {record.split} split, "
        f"look {record.look}",
        f"[dim]smallest difference this test could see: {record.smallest_visible_difference:.3f}[/]",
    ]
    if record.n_needed:
        shown.append(f"a verdict would take about {record.n_needed:,} samples")
    if len(every) > len(names):
        shown.extend(["", _further_table(record, every[len(names) :])])
    if record.noisy:
        shown.extend(["", _noisy_table(record)])
    if record.general_skills:
        shown.extend(["", _skills_table(record)])
    return [*shown, *beside_shown(record), *([""] if record.warnings else []), *warning_lines(record.warnings)]


def _further_table(record: EvaluationRecord, names: Sequence[str]) -> Table:
    """The metrics that the first table has no room for, of the two systems that are compared."""
    pair = [system for system in record.systems if system.name in (record.baseline, record.candidate)]
    table = plain_table("further metric", *[f">{system_name(system.name)}" for system in pair])
    for name in names:
        table.add_row(escape(name), *[_metric(system, name) for system in pair])
    return table


def _answered(system: SystemResult) -> str:
    """The system, and on how many samples it is scored where it did not answer all."""
    n = next((metric.n for metric in system.metrics.values()), 0)
    short = f" [yellow]({n:,} of {n + system.num_missing:,})[/]" if system.num_missing else ""
    return f"{escape(system_name(system.name))}{short}"


def _asked(record: EvaluationRecord) -> list[str]:
    """The baseline, how it was asked, and of how many prompts that was the best on validation."""
    found = next((system for system in record.systems if system.name == record.baseline), None)
    if found is None:
        return []
    tried = sum(not str(row.get("name", "")).startswith("endpoint:") for row in record.prompt_choices)
    of = f" (best of {tried} on validation)" if tried > 1 and record.baseline != "constant" else ""
    return [f"baseline: {system_name(found.name)}: {escape(found.prompt)}{of}"]


def _noisy_table(record: EvaluationRecord) -> Table:
    """What typing errors, abbreviations and a casual tone cost."""
    table = plain_table("with typing errors", f">clean {record.primary_metric}", ">noisy", ">difference")
    for score in record.noisy:
        apart = f"{score.noisy - score.clean:+.3f} ({score.ci_low:+.3f} to {score.ci_high:+.3f})"
        table.add_row(escape(system_name(score.system)), f"{score.clean:.3f}", f"{score.noisy:.3f}", apart)
    return table


def _metric(system: SystemResult, name: str) -> str:
    metric = system.metrics.get(name)
    if not metric:
        return "–"
    to = " to " if metric.ci_low < 0 else "-"
    return f"{metric.value:.3f} ({metric.ci_low:.3f}{to}{metric.ci_high:.3f})"


def _baseline(record: EvaluationRecord) -> str:
    return "one answer to all" if record.baseline == "constant" else "the prompted base"


def _verdict(record: EvaluationRecord) -> str:
    return f"[{VERDICT_STYLE[record.verdict]}]{record.verdict.replace('_', ' ')}[/]"


def _delta(record: EvaluationRecord) -> str:
    delta = record.delta
    interval = f"{record.confidence_percent:g} % {delta.ci_low:+.3f} to {delta.ci_high:+.3f}"
    return f"{delta.value:+.3f} ({interval}, p = {delta.p_value:.2g})"


def _skills_table(record: EvaluationRecord) -> Table:
    table = plain_table("general skill", "metric", ">before", ">after", ">change, 95 %")
    for skill in record.general_skills:
        change = f"{skill.after - skill.before:+.3f} ({skill.ci_low:+.3f} to {skill.ci_high:+.3f})"
        table.add_row(skill.skill, skill.metric, f"{skill.before:.3f}", f"{skill.after:.3f}", change)
    return table


def diagnosis_shown(record: DiagnosisRecord) -> list[RenderableType]:
    """Causes, root causes first, numbered for `--apply`, with evidence and what mends them."""
    shown: list[RenderableType] = []
    for number, cause in enumerate(record.causes, start=1):
        follows = " and ".join(mode.replace("_", " ") for mode in cause.explained_by)
        shown.append(
            f"[bold]{number}. {cause.mode.replace('_', ' ')}[/] (strength {cause.statistic:.1f}"
            f"{f'; follows from {follows}' if follows else ''})"
        )
        shown += [Padding(escape(cause.explanation), (0, 0, 0, 3)), _cause_table(cause)]
    if not record.causes:
        shown.append("[green]nothing found[/]")
    shown.append(f"[dim]checked: {', '.join(mode.replace('_', ' ') for mode in record.checked)}[/]")
    shown.extend(f"[dim]not checked: {line}[/]" for line in _unchecked(record))
    return shown


def _cause_table(cause: Cause) -> Padding:
    """What the cause rests on and what mends it; long lines go on below their own beginning."""
    rows = [("evidence", line) for line in cause.evidence]
    rows += [("fix", line) for line in cause.fixes]
    rows += [("setting", f"{name} = {shown_value(value)}") for name, value in cause.patch.items()]
    rows += [("data", step.sentence) for step in cause.data_steps]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, escape(text))
    return Padding(table, (0, 0, 0, 3))


def _unchecked(record: DiagnosisRecord) -> list[str]:
    """The modes that could not be judged, one line for each reason."""
    modes: dict[str, list[str]] = {}
    for mode, why in record.not_checked.items():
        modes.setdefault(why, []).append(mode.replace("_", " "))
    return [f"{', '.join(names)} ({escape(why)})" for why, names in modes.items()]


# --- runs -----------------------------------------------------------------------------------------------------------


def runs_table(runs: Sequence[RunInfo]) -> Table:
    """Runs at a glance."""
    table = plain_table("run", "state", "base", "method", "verdict", ">took", "created")
    for column in table.columns[1:]:
        column.no_wrap = True
    for run in runs:
        state = f"{run.state} ({run.stage})" if run.stage not in ("", "train") else run.state
        took = show_seconds(run.seconds) if run.seconds is not None else "–"
        created = run.created[5:16].replace("T", " ")
        table.add_row(
            run.run_id, state, escape(PurePath(run.base).name[:16]), run.method, run.verdict or "–", took, created
        )
    return table


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A curve in one line of blocks, from the lowest finite value to the highest; `×` where it is not finite."""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    finite = [value for value in values if value - value == 0]
    if not finite:
        return "×" * len(values)
    low, high = min(finite), max(finite)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if value - value == 0 else "×" for value in values)
