"""`foretune compare`: runs on the same samples, variants on split traffic, or both."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir

__all__ = ["command"]


def command(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs, the baseline first.")] = None,
    outcomes: Annotated[
        Path | None, typer.Option("--outcomes", metavar="FILE", help="Outcomes of split traffic: CSV, JSONL, SQLite.")
    ] = None,
    experiment: Annotated[
        Path | None, typer.Option("--experiment", metavar="FOLDER", help="Folder of the plan: experiment.json.")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="Metric of the runs that decides.")] = "",
    baseline: Annotated[str, typer.Option("--baseline", help="Variant of the traffic to compare with.")] = "",
    primary: Annotated[str, typer.Option("--primary", help="Outcome that decides.")] = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Keep comparison.json here.")] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Compare runs on the same samples, or variants on split traffic.

    One run alone is compared with its own baseline. No verdict on traffic
    before 7 full days.

    \b
    Examples:
      foretune compare run-001 run-002
      foretune compare --outcomes outcomes.csv --baseline control
    """
    from rich.markup import escape

    from foretune.cli.show import warning_lines
    from foretune.compare.compare import compare
    from foretune.records.run import find_run

    folders = [find_run(runs_dir, name) for name in runs or ()]
    record = compare(
        folders,
        outcomes=outcomes,
        experiment=experiment,
        baseline=baseline,
        metric=metric,
        primary=primary,
        folder=out,
    )
    shown = [f"[bold]{record.state.replace('_', ' ')}[/]: {escape(record.headline)}"]
    if record.offline is not None:
        shown += [_claim(claim) for claim in record.offline.claims]
    for result in record.online:
        shown.append(f"{escape(result.candidate)}: {escape(result.reason)}")
    if record.gap:
        shown.append(escape(record.gap))
    warnings = [*record.notes, *(record.offline.warnings if record.offline else ())]
    document = {"command": "compare", "comparison": record.as_dict()}
    return Answer(document, [*shown, *warning_lines(warnings)], next="foretune report latest")


def _claim(claim: object) -> str:
    from rich.markup import escape

    from foretune.records.comparison import OfflineClaim

    assert isinstance(claim, OfflineClaim)
    verdict = f" {claim.verdict.replace('_', ' ')}," if claim.verdict else ""
    interval = f"95 % {claim.ci_low:+.3f} to {claim.ci_high:+.3f}, p = {claim.p_adjusted:.2g}, n = {claim.n:,}"
    pair = f"{escape(claim.candidate)} against {escape(claim.baseline)}"
    return f"{pair}:{verdict} {claim.metric} {claim.value:+.3f} ({interval})"


command.__name__ = "compare"
