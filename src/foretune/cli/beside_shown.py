"""What stands beside a verdict and never decides, for 80 columns: endpoints, retrieval, fewer bits, the judge, gaps."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from foretune.cli.tables import plain_table, system_name
from foretune.records.evaluation import EvaluationRecord, JudgeResult

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["beside_shown"]

STATUS_STYLE = {"holds": "green", "breached": "red", "unproven": "yellow"}


def beside_shown(record: EvaluationRecord) -> list[RenderableType]:
    """Claims with Holm's correction, gates, what answers cost, similarity, the judge, and how to fill the gaps."""
    shown: list[RenderableType] = [*_claims(record)]
    shown += [f"[{STATUS_STYLE[gate.status]}]gate {gate.status}[/]: {escape(gate.reason)}" for gate in record.gates]
    shown += _prices(record)
    if record.similarity is not None:
        found = record.similarity
        mean, shuffled = (round(value, 3) + 0.0 for value in (found.mean, found.shuffled))  # no "-0.000"
        shown.append(f"[dim]similarity to the targets {mean:.3f}; to other samples' {shuffled:.3f}[/]")
    shown += _judge(record.judge) if record.judge is not None else []
    if _has_gaps(record):
        shown.append(f"missing answers alone are asked for again by: foretune evaluate {escape(record.run_id)}")
    return ["", *shown] if shown else []


def _has_gaps(record: EvaluationRecord) -> bool:
    is_judge_short = record.judge is not None and record.judge.num_missing > 0
    return bool(record.gaps) or is_judge_short or any(system.num_missing for system in record.systems)


def _claims(record: EvaluationRecord) -> list[RenderableType]:
    if not record.claims:
        return []
    table = plain_table("fine-tuned against", ">difference", ">95 % interval", ">p, Holm", ">n", "")
    for claim in record.claims:
        table.add_row(
            escape(system_name(claim.system)),
            f"{claim.delta.value:+.3f}",
            f"{claim.delta.ci_low:+.3f} to {claim.delta.ci_high:+.3f}",
            f"{claim.p_adjusted:.2g}",
            f"{claim.n:,}",
            claim.verdict.replace("_", " "),
        )
    short = [
        f"[dim]{escape(system_name(claim.system))}: only {claim.n:,} of {record.n:,} samples are compared[/]"
        for claim in record.claims
        if claim.n < record.n
    ]
    return [table, *short, ""]


def _prices(record: EvaluationRecord) -> list[RenderableType]:
    return [
        f"[dim]{escape(system_name(system.name))}: {system.seconds_per_answer:.2g} s an answer"
        + (f", ${system.cost_usd:.4g} in all[/]" if system.cost_usd is not None else "[/]")
        for system in record.systems
        if system.seconds_per_answer is not None and (system.cost_usd is not None or system.name.startswith("endpoint"))
    ]


def _judge(judge: JudgeResult) -> list[RenderableType]:
    name = f"judge {escape(judge.model)} (never decides)"
    if not judge.n:
        return [f"{name}: no pair judged"]
    lines: list[RenderableType] = [
        f"{name}: {judge.wins} for, {judge.losses} against, {judge.ties} equal, {judge.inconsistent} turned with the "
        f"order; preference {judge.preference:+.2f} (95 % {judge.ci_low:+.2f} to {judge.ci_high:+.2f}), n = {judge.n}"
        + (f"; {judge.num_missing} more pairs are missing, so it says little" if judge.num_missing else "")
    ]
    if judge.corrected is not None:
        kappa = "unknown" if judge.agreement is None else f"{judge.agreement:.2f}"
        lines.append(
            f"with {judge.num_labels} human votes: wins {judge.corrected.value:.1%} "
            f"({judge.corrected.ci_low:.1%} to {judge.corrected.ci_high:.1%}); agreement kappa {kappa}"
        )
    return lines
