"""Answers of `foretune plan`: a job here, any model on any device, a project, a table, the scorecard."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.cli.face import Answer, job_words
from foretune.cli.plan_again import Asked, next_command
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.plan.whole import WholePlan

__all__ = ["batch", "forecast_answer", "job_plan", "of_job", "only_project", "questions", "scorecard_of"]


def questions() -> Answer:
    """A project file to fill in."""
    from rich.text import Text

    from foretune.plan.project import questions as asked

    text = asked()
    return Answer({"command": "plan", "questions": text}, [Text(text, no_wrap=True, overflow="ignore", end="")])


def scorecard_of(runs_dir: Path) -> Answer:
    """How good the predictions have been here."""
    from foretune.cli.show_plan import scorecard_shown
    from foretune.plan.scorecard import scorecard

    scores = scorecard(runs_dir)
    document = {"command": "plan", "scorecard": [score.model_dump() for score in scores]}
    return Answer(document, scorecard_shown(scores), next=next_command("foretune plan job.toml --probe"))


def batch(table: Path, measured: Path | None) -> Answer:
    """A forecast for every row of a table."""
    from foretune.cli.show_plan import batch_shown
    from foretune.plan.batch import forecast_table

    rows = forecast_table(table, measured)
    document = {"command": "plan", "num_rows": len(rows), "rows": rows}
    calibrated = ["--measured", str(measured)] if measured else []
    then = shlex.join(["foretune", "plan", "--batch", str(table), *calibrated, "--json"])
    return Answer(document, batch_shown(rows), next=then)


def job_plan(asked: Asked, settings: dict[str, Any], *, probe: bool, runs_dir: Path) -> Answer:
    """The plan of a job on this machine, as the journey makes it, with what earlier runs on its data measured."""
    from foretune import api
    from foretune.cli.plan_outlook_shown import around_shown
    from foretune.cli.show import plan_shown
    from foretune.config import resolve_job
    from foretune.plan.measurements import measured_run
    from foretune.plan.whole import whole_plan_of_job

    assert asked.job is not None
    resolved = resolve_job(asked.job, settings)
    record = api.plan(resolved, probe=probe)
    measured = measured_run(runs_dir, resolved.job)
    job = job_words(asked.job_file, settings)
    whole = whole_plan_of_job(
        record, project=asked.project, max_cost_usd=asked.max_cost_usd, job=job, measured=measured
    )
    document = {"command": "plan", "job": asked.job_file, **whole.as_dict(), "plan": record.as_dict()}
    smaller = job_words(asked.job_file, {**settings, "train.advanced.micro_batch_size": 1})
    then = f"foretune run {job}" if record.fits else f"foretune plan {smaller}"
    shown = [*plan_shown(record), *around_shown(whole, is_asked=asked.project is not None)]
    return _answer(asked, whole, document, shown, then)


def only_project(asked: Asked) -> Answer:
    """Should we, when, does it pay: without a model."""
    from foretune.cli.plan_outlook_shown import outlook_shown
    from foretune.plan.project import outlook, read_project

    if asked.project is None:
        raise ConfigError(
            "neither a job, a model nor a project is given",
            fix="foretune plan job.toml, or foretune plan --base llama-3.1-8b --gpu H100",
        )
    told = read_project(asked.project)
    around = outlook(told)
    document = {"command": "plan", **around.as_dict()}
    shown = outlook_shown(around)
    if asked.html is not None:
        from foretune.ui.plan_page import write_outlook_page

        document["html"] = str(write_outlook_page(asked.html, around))
        shown = [*shown, "", f"Wrote {asked.html}"]
    return Answer(document, shown, next=next_command(around.advice.next_command, told.situation.goal))


def of_job(asked: Asked, settings: dict[str, Any]) -> Asked:
    """The question with what a job says below what was given."""
    from foretune.config import resolve_job
    from foretune.plan.answer import request_of_job

    assert asked.job is not None
    resolved = resolve_job(asked.job, settings)
    full, data = request_of_job(resolved.job, resolved.folder, asked.given, asked.data)
    return dataclasses.replace(asked, full=full, job_data=data)


def forecast_answer(asked: Asked, *, explain: bool) -> Answer:
    """Memory, time and money of a model on a device, and what is around it."""
    from foretune.cli.plan_outlook_shown import around_shown
    from foretune.cli.show_plan import forecast_shown
    from foretune.plan.whole import whole_plan

    whole = whole_plan(
        asked.request,
        data=asked.samples,
        project=asked.project,
        max_cost_usd=asked.max_cost_usd,
        job=asked.job_file,
    )
    document = {"command": "plan", **whole.as_dict()}
    shown = [
        *forecast_shown(whole.forecast, explain=explain, sizes=whole.sizes),
        *around_shown(whole, is_asked=asked.project is not None),
    ]
    return _answer(asked, whole, document, shown, _then(asked, whole))


def _then(asked: Asked, whole: WholePlan) -> str:
    """Elsewhere where it does not fit, the job where there is one, else the ranked devices."""
    if whole.forecast.fits is False:
        return asked.again(gpu=None, num_gpus=None, method=None, choices="cheapest")
    if asked.job is not None:
        return shlex.join(["foretune", "run", str(asked.job)])
    return asked.again(gpu=None, num_gpus=None, choices="cheapest")


def _answer(asked: Asked, whole: WholePlan, document: dict[str, Any], shown: list[RenderableType], then: str) -> Answer:
    if asked.html is None:
        return Answer(document, shown, next=then)
    from foretune.ui.plan_page import write_plan_page

    path = write_plan_page(asked.html, whole)
    return Answer({**document, "html": str(path)}, [*shown, "", f"Wrote {path}"], next=then)
