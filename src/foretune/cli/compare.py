"""`foretune compare`: runs on the same samples, variants on split traffic, or both; and the plan of a split test."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from foretune.compare.planned import Past
    from foretune.records.comparison import ComparisonRecord, OutcomeSpec

__all__ = ["command"]

PLAN_EXAMPLE = (
    "foretune compare --plan test1 --baseline control --candidate tuned --primary task_completion "
    "--smallest 0.03 --rate 0.6 --users-a-day 500"
)


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
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too.")] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FOLDER", help="Plan a split test: write experiment.json here.")
    ] = None,
    candidate: Annotated[str, typer.Option("--candidate", metavar="NAME", help="--plan: the new variant.")] = "",
    smallest: Annotated[
        float, typer.Option("--smallest", metavar="DIFFERENCE", help="--plan: the smallest difference that matters.")
    ] = 0.0,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="FRACTION", help="--plan: the outcome's rate now; else of --outcomes."),
    ] = None,
    users_a_day: Annotated[
        float | None,
        typer.Option("--users-a-day", metavar="N", help="--plan: new users a day; else of --outcomes."),
    ] = None,
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
      foretune compare run-001 run-002 --html compare.html
      foretune compare --outcomes outcomes.csv --baseline control
      foretune compare --outcomes outcomes.csv --experiment test1
    """
    from foretune.cli.compare_shown import comparison_shown
    from foretune.compare.compare import compare
    from foretune.records.run import find_system

    names = {"--candidate": candidate, "--smallest": smallest, "--rate": rate, "--users-a-day": users_a_day}
    _check_fitting(
        {name: bool(value) for name, value in names.items()},
        {"--metric": bool(metric)},
        {"--baseline": bool(baseline), "--primary": bool(primary)},
        {"--experiment": experiment is not None},
        {"--out": out is not None, "--html": html is not None},
        has_runs=bool(runs),
        has_traffic=outcomes is not None,
        has_plan=plan is not None,
    )
    if plan is not None:
        return _plan(plan, outcomes, baseline, candidate, primary, smallest, (rate, users_a_day))
    record = compare(
        [find_system(runs_dir, name) for name in runs or ()],
        outcomes=outcomes,
        experiment=experiment,
        baseline=baseline,
        metric=metric,
        primary=primary,
        folder=out,
    )
    document = {"command": "compare", "comparison": record.as_dict()}
    shown = comparison_shown(record)
    if html is not None:
        from foretune.ui.compared import write_comparison_page

        shown += ["", f"Wrote {write_comparison_page(html, record)}"]
    return Answer(document, shown, next=_next(record, runs or (), outcomes, experiment))


command.__name__ = "compare"


def _check_fitting(
    of_plan: dict[str, bool],
    of_runs: dict[str, bool],
    of_traffic: dict[str, bool],
    of_experiment: dict[str, bool],
    of_result: dict[str, bool],
    *,
    has_runs: bool,
    has_traffic: bool,
    has_plan: bool,
) -> None:
    """Raise ConfigError for an option that would change nothing here, instead of leaving it out without a word."""
    is_planned = of_experiment["--experiment"]
    wrong = [
        (of_plan, not has_plan, "is part of a plan", PLAN_EXAMPLE),
        (of_runs, not has_runs, "compares runs, and none is given", "foretune compare RUN RUN --metric NAME"),
        (of_traffic, not (has_traffic or has_plan), "speaks of split traffic", "--outcomes FILE"),
        (of_traffic, is_planned, "is fixed by the plan of --experiment", "leave it out, or compare without the plan"),
        (of_experiment, not has_traffic, "needs the log of its traffic", "--outcomes FILE"),
        ({"RUN": has_runs, **of_result}, has_plan, "has no part in a plan", "leave it out"),
    ]
    for given, is_wrong, why, fix in wrong:
        named = [name for name, is_given in given.items() if is_given]
        if named and is_wrong:
            raise ConfigError(f"{named[0]} {why}", fix=fix)


def _next(record: ComparisonRecord, runs: Sequence[str], outcomes: Path | None, experiment: Path | None) -> str:
    """The report of the last run, or the next look at the traffic; nothing once every test is decided."""
    if outcomes is None:
        return f"foretune report {record.offline.variants[-1].run_id}" if record.offline else ""
    if experiment is None:
        return _planning(record, outcomes)
    if all(result.status == "decided" and not result.rollback for result in record.online):
        return f"foretune report {record.offline.variants[-1].run_id}" if record.offline else ""
    return " ".join(["foretune compare", *runs, f"--outcomes {outcomes} --experiment {experiment}"])


def _planning(record: ComparisonRecord, outcomes: Path) -> str:
    """How a test with what this log shows would be planned; nothing where the log cannot be trusted."""
    effect = next((result.primary for result in record.online if result.primary is not None), None)
    if effect is None or record.ratio is None:
        return ""
    names = f"--baseline {next(iter(record.ratio.observed))} --candidate {effect.candidate}"
    return f"foretune compare --plan test1 --outcomes {outcomes} {names} --primary {effect.outcome} --smallest 0.02"


def _plan(
    folder: Path,
    outcomes: Path | None,
    baseline: str,
    candidate: str,
    primary: str,
    smallest: float,
    known: tuple[float | None, float | None],
) -> Answer:
    """Write experiment.json from a log of the past, or from a rate and the users of a day."""
    from foretune.cli.compare_shown import experiment_shown
    from foretune.compare.planned import plan_experiment
    from foretune.records.comparison import Experiment

    if (folder / Experiment.file_name).exists():
        raise ConfigError(f"{folder} holds a plan already, and a running test keeps its plan", fix="--plan OTHER")
    names = {"--baseline": baseline, "--candidate": candidate, "--primary": primary, "--smallest": smallest}
    missing = [name for name, value in names.items() if not value]
    if missing:
        raise ConfigError(f"--plan also needs {' and '.join(missing)}", fix=PLAN_EXAMPLE)
    past, guards = _past(outcomes, primary, known)
    planned = plan_experiment(past, smallest, baseline=baseline, candidate=candidate, primary=primary, guards=guards)
    path = planned.experiment.write(folder)
    document = {"command": "compare", "path": str(path), "experiment": planned.experiment.as_dict()}
    shown = [*experiment_shown(planned.experiment, planned.design.advice), f"Wrote {path}"]
    return Answer(document, shown, next=f"foretune compare --outcomes {outcomes or 'FILE'} --experiment {folder}")


def _past(
    outcomes: Path | None, primary: str, known: tuple[float | None, float | None]
) -> tuple[Past, tuple[OutcomeSpec, ...]]:
    """What the outcome was before, and the guards that were logged (all where there is no log)."""
    from foretune.compare.guards import DEFAULT_GUARDS
    from foretune.compare.outcomes import read_outcomes
    from foretune.compare.planned import Past, past_of

    rate, users = known
    if outcomes is None:
        if rate is None or users is None:
            raise ConfigError("--plan needs --rate and --users-a-day, or a log of the past", fix=PLAN_EXAMPLE)
        return Past(rate, None, users), DEFAULT_GUARDS
    read = read_outcomes(outcomes)
    past = past_of(read, primary)
    if rate is not None:
        past = past._replace(mean=rate, deviation=None)
    guards = tuple(guard for guard in DEFAULT_GUARDS if guard.name in read.values)
    return past._replace(users_per_day=users or past.users_per_day), guards
