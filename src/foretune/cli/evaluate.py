"""`foretune evaluate`: the verdict on a trained run, people's votes on it, and whether more data would help."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, ReuseTest, Run, RunsDir, Yes, parsed_settings
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.records.learning_curve import LearningCurveRecord

__all__ = ["command"]

WAYS = ("--rate", "--export-ratings", "--import-ratings", "--learning-curve", "--cross-fit", "--set")


def command(
    run: Run = LATEST,
    reuse_test: ReuseTest = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Show more beside the verdict, such as evaluate.scorers."),
    ] = None,
    rate: Annotated[bool, typer.Option("--rate", help="Rate pairs of answers blind, by the keyboard.")] = False,
    rater: Annotated[
        str, typer.Option("--rater", metavar="NAME", help="Who rates; empty = the name of this account.")
    ] = "",
    marks: Annotated[
        bool, typer.Option("--marks/--no-marks", help="Also ask for marks of 1 to 5 by the rubric.")
    ] = False,
    export_ratings: Annotated[
        Path | None, typer.Option("--export-ratings", metavar="FILE", help="Write the pairs as CSV for NAME.")
    ] = None,
    import_ratings: Annotated[
        Path | None, typer.Option("--import-ratings", metavar="FILE", help="Take over the votes of a filled CSV.")
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Train on 10, 25, 50 % as well: would more data help?")
    ] = False,
    cross_fit: Annotated[
        int, typer.Option("--cross-fit", metavar="K", min=0, help="For few data: train on all but each of K parts.")
    ] = 0,
    yes: Yes = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Compare a run with its prompted base.

    On the sealed test split, with intervals; a second look at the same split
    needs --reuse-test. --set adds to what is shown beside the verdict: the
    answers, the look and the verdict stay.

    \b
    Examples:
      foretune evaluate
      foretune evaluate json-extract-001 --reuse-test
      foretune evaluate json-extract-001 --set 'evaluate.scorers=["rouge_l"]'
      foretune evaluate json-extract-001 --rate --rater anna
      foretune evaluate json-extract-001 --learning-curve
      foretune evaluate json-extract-001 --cross-fit 10
    """
    from foretune.records.run import find_run

    _check_one_way(rate, export_ratings, import_ratings, learning_curve, cross_fit, settings)
    run_dir = find_run(runs_dir, run)
    if learning_curve:
        return _curve(run_dir, yes=yes)
    if cross_fit:
        return _cross_fit(run_dir, cross_fit, yes=yes)
    if rate or export_ratings is not None or import_ratings is not None:
        return _ratings(run_dir, rater or _account(), marks, export_ratings, import_ratings)
    answer = _verdict(run_dir, runs_dir, reuse_test, parsed_settings(settings))
    if settings:
        return answer
    wanted = _wanted_folds(run_dir)
    return _with(answer, _cross_fit(run_dir, wanted, yes=yes)) if wanted else answer


command.__name__ = "evaluate"


def _check_one_way(*given: object) -> None:
    named = [name for name, value in zip(WAYS, given, strict=True) if value]
    if len(named) > 1:
        raise ConfigError(f"{named[0]} and {named[1]} exclude each other", fix=f"leave {named[1]} out")


def _verdict(run_dir: Path, runs_dir: Path, reuse_test: bool, settings: dict[str, Any]) -> Answer:
    from foretune import api
    from foretune.cli.show import evaluation_shown
    from foretune.cli.under_way import watching

    with watching() as watcher:
        options: dict[str, Any] = {"reuse_test": reuse_test, "settings": settings, "on_progress": watcher.progress}
        record = api.evaluate(run_dir, runs_dir=runs_dir, **options)
    document = {
        "command": "evaluate",
        "run_id": run_dir.name,
        "evaluation": record.as_dict(),
        "exactMatchRate": record.exact_match_rate,
        "avgSimilarity": record.avg_similarity,
        "humanEvalQueue": _queue(run_dir),
    }
    return Answer(document, evaluation_shown(record), next=f"foretune diagnose {run_dir.name}")


def _queue(run_dir: Path) -> list[dict[str, str]]:
    """What people may rate: input, prediction, expected."""
    import json

    from foretune.evaluate.evaluate import HUMAN_QUEUE_FILE

    path = run_dir / HUMAN_QUEUE_FILE
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def _ratings(run_dir: Path, rater: str, marks: bool, export_to: Path | None, import_from: Path | None) -> Answer:
    from foretune.cli import rate
    from foretune.config.job import JobConfig
    from foretune.records.run import ResolvedRecord

    rubric = JobConfig.model_validate(ResolvedRecord.read(run_dir).job).evaluate.advanced.rubric
    if import_from is not None:
        return rate.import_ratings(run_dir, rubric, import_from)
    criteria = rubric if marks else ()
    if export_to is not None:
        return rate.export_ratings(run_dir, rater, criteria, export_to)
    return rate.rate(run_dir, rater, criteria)


def _account() -> str:
    return os.environ.get("USER") or os.environ.get("USERNAME") or "rater"


def _curve(run_dir: Path, *, yes: bool) -> Answer:
    from foretune.cli.under_way import approval, watching
    from foretune.evaluate.learning_curve import CURVE_FOLDER, measure_curve
    from foretune.journey import train_part
    from foretune.steps import Run as OpenRun

    with watching() as watcher:
        here = OpenRun.open(run_dir, watcher=watcher)
        options: dict[str, Any] = {"folder": CURVE_FOLDER, "why": "a part of a learning curve"}
        record = measure_curve(
            here.job,
            run_dir=run_dir,
            runs_dir=here.runs_dir,
            folder=here.folder,
            train_on=lambda part: train_part(here, part.settings, approve=approval(yes=yes), **options),
            on_progress=watcher.progress,
        )
    document: dict[str, Any] = {"command": "evaluate", "run_id": run_dir.name, "learning_curve": record.as_dict()}
    return Answer(document, _curve_shown(record), next="foretune plan --questions > project.toml")


def _wanted_folds(run_dir: Path) -> int:
    """Parts of the cross-fitted verdict that the job asks for; 0 for none."""
    from foretune.config.job import JobConfig
    from foretune.records.run import ResolvedRecord

    if not ResolvedRecord.exists(run_dir):
        return 0
    return JobConfig.model_validate(ResolvedRecord.read(run_dir).job).evaluate.advanced.cross_fit


def _with(first: Answer, second: Answer) -> Answer:
    """Both, one below the other."""
    return Answer({**first.document, **second.document}, [*first.shown, "", *second.shown], next=first.next)


def _cross_fit(run_dir: Path, num_folds: int, *, yes: bool) -> Answer:
    from foretune.cli.tables import system_name
    from foretune.cli.under_way import approval, watching
    from foretune.evaluate.cross_fit import CROSS_FIT_FOLDER, measure_cross_fit
    from foretune.journey import train_part
    from foretune.steps import Run as OpenRun

    with watching() as watcher:
        here = OpenRun.open(run_dir, watcher=watcher)
        options: dict[str, Any] = {"folder": CROSS_FIT_FOLDER, "why": "a part of a cross-fitted verdict"}
        record = measure_cross_fit(
            here.job,
            run_dir=run_dir,
            runs_dir=here.runs_dir,
            folder=here.folder,
            train_on=lambda data: train_part(here, data.settings, approve=approval(yes=yes), **options),
            num_folds=num_folds,
            on_progress=watcher.progress,
        )
    document: dict[str, Any] = {"command": "evaluate", "run_id": run_dir.name, "cross_fit": record.as_dict()}
    shown: list[RenderableType] = [
        f"cross-fitted, {record.num_folds} parts, {record.n:,} samples: [bold]{record.verdict.replace('_', ' ')}[/]",
        record.reason,
        f"{record.metric}: {system_name(record.baseline)} {record.baseline_score.value:.3f}, "
        f"{system_name('fine_tuned')} {record.candidate_score.value:.3f}",
        f"[dim]the smallest difference that these samples show: {record.smallest_visible_difference:.1%}[/]",
    ]
    return Answer(document, shown, next=f"foretune diagnose {run_dir.name}")


def _curve_shown(record: LearningCurveRecord) -> list[RenderableType]:
    from rich.markup import escape

    from foretune.cli.show import plain_table, warning_lines

    table = plain_table(">of the data", ">samples", f">{record.metric}", ">95 %")
    for part in record.parts:
        table.add_row(
            f"{part.share:.0%}", f"{part.num_samples:,}", f"{part.score:.3f}", f"{part.ci_low:.3f}-{part.ci_high:.3f}"
        )
    if not record.stopped_early:
        band = f"{record.predicted_low:.3f}-{record.predicted_high:.3f}"
        table.add_row("200%", f"{2 * record.parts[-1].num_samples:,}", f"[dim]{record.predicted_score:.3f}[/]", band)
    measured = f"[situation.measured] last_doubling_gain = {record.last_doubling_gain:.4f}"
    told = "[dim]on validation samples; for plan's advice, in project.toml:[/]"
    return [
        f"[bold]{record.answer}[/]: {record.advice}",
        "",
        table,
        "",
        told,
        escape(measured),
        *warning_lines(record.warnings),
    ]
