"""`foretune plan`: should we, will it fit, how long, how much, before anything is spent."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

from foretune.cli.face import (
    DEFAULT_RUNS,
    Answer,
    Debug,
    Json,
    MaxCost,
    MaxHours,
    RunsDir,
    Seed,
    Settings,
    parsed_settings,
)
from foretune.cli.plan_options import (
    Base,
    Batch,
    Checkpointing,
    Choices,
    DataFile,
    Epochs,
    Explain,
    Framework,
    Gpu,
    GradAccum,
    Job,
    MaxSeqLen,
    Measured,
    Method,
    MicroBatchSize,
    NumExamples,
    NumGpus,
    OptimizerDtype,
    Packing,
    Parallelism,
    Params,
    Precision,
    PricePerGpuHour,
    Probe,
    ProjectFile,
    Rank,
    ShowQuestions,
    ShowScorecard,
    TokensPerExample,
)
from foretune.errors import ConfigError

__all__ = ["command"]


def command(
    job: Job = None,
    base: Base = None,
    params: Params = None,
    method: Method = None,
    gpu: Gpu = None,
    num_gpus: NumGpus = None,
    data: DataFile = None,
    num_examples: NumExamples = None,
    tokens_per_example: TokensPerExample = None,
    epochs: Epochs = None,
    max_seq_len: MaxSeqLen = None,
    micro_batch_size: MicroBatchSize = None,
    grad_accum: GradAccum = None,
    rank: Rank = None,
    precision: Precision = None,
    optimizer_dtype: OptimizerDtype = None,
    checkpointing: Checkpointing = None,
    packing: Packing = None,
    framework: Framework = None,
    parallelism: Parallelism = None,
    price_per_gpu_hour: PricePerGpuHour = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    choices: Choices = None,
    project: ProjectFile = None,
    questions: ShowQuestions = False,
    batch: Batch = None,
    measured: Measured = None,
    scorecard: ShowScorecard = False,
    explain: Explain = False,
    probe: Probe = False,
    settings: Settings = None,
    seed: Seed = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Should we fine-tune, will it fit, how long, how much.

    With a job file, a plan for this machine; with a model or a device, a
    forecast for any. Trains nothing and leaves nothing behind.

    \b
    Examples:
      foretune plan job.toml --probe
      foretune plan --base llama-3.1-8b --gpu H100 --data rows.jsonl
      foretune plan --params 7B --data rows.jsonl --choices cheapest
      foretune plan --questions > project.toml
      foretune plan --project project.toml
    """
    from foretune.plan.request import parameter_count, plan_request

    if questions:
        return _questions()
    if scorecard:
        return _scorecard(runs_dir)
    if batch is not None:
        return _batch(batch, measured)
    given = plan_request(
        base=base,
        params=None if params is None else parameter_count(params),
        method=method,
        gpu=gpu,
        num_gpus=num_gpus,
        num_examples=num_examples,
        tokens_per_example=tokens_per_example,
        epochs=epochs,
        max_seq_len=max_seq_len,
        micro_batch_size=micro_batch_size,
        grad_accum=grad_accum,
        rank=rank,
        precision=precision,
        optimizer_dtype=optimizer_dtype,
        checkpointing=checkpointing,
        packing=packing,
        framework=framework,
        parallelism=parallelism,
        price_per_gpu_hour=price_per_gpu_hour,
    )
    is_bare = not given.model_fields_set
    if job is not None and is_bare and choices is None:
        return _job_plan(job, parsed_settings(settings, seed=seed), project, probe=probe)
    if job is None and is_bare and data is None:
        return _only_project(project)
    if job is not None:
        from foretune.config import resolve_job
        from foretune.plan.answer import request_of_job

        resolved = resolve_job(job, parsed_settings(settings, seed=seed))
        given, data = request_of_job(resolved.job, resolved.folder, given, data)
    if choices is not None:
        return _choices(given, data, choices, max_hours, max_cost)
    return _forecast(given, data, project, explain=explain)


def _questions() -> Answer:
    from rich.text import Text

    from foretune.plan.project import questions

    text = questions()
    return Answer({"command": "plan", "questions": text}, [Text(text, no_wrap=True, overflow="ignore", end="")])


def _scorecard(runs_dir: Path) -> Answer:
    from foretune.cli.show_plan import scorecard_shown
    from foretune.plan.scorecard import scorecard

    scores = scorecard(runs_dir)
    document = {"command": "plan", "scorecard": [score.model_dump() for score in scores]}
    return Answer(document, scorecard_shown(scores), next="foretune plan job.toml --probe")


def _batch(batch: Path, measured: Path | None) -> Answer:
    from foretune.cli.show_plan import batch_shown
    from foretune.plan.batch import forecast_table

    rows = forecast_table(batch, measured)
    document = {"command": "plan", "num_rows": len(rows), "rows": rows}
    return Answer(document, batch_shown(rows), next=f"foretune plan --batch {batch} --json")


def _job_plan(job: Path, settings: dict[str, Any], project: Path | None, *, probe: bool) -> Answer:
    """The plan of a job on this machine, as the journey makes it."""
    from foretune import api
    from foretune.cli.show import plan_shown
    from foretune.cli.show_plan import outlook_shown
    from foretune.config import resolve_job
    from foretune.plan.answer import forecast_of_plan
    from foretune.plan.project import Project, outlook, read_project

    record = api.plan(resolve_job(job, settings), probe=probe)
    forecast = forecast_of_plan(record)
    around = outlook(read_project(project) if project else Project(), forecast)
    document = {"command": "plan", "job": str(job), **_pinned(forecast), **_around(around), "plan": record.as_dict()}
    then = f"foretune run {job}" if record.fits else f"foretune plan {job} --set train.advanced.micro_batch_size=1"
    shown = [*plan_shown(record), *(["", *outlook_shown(around)] if project else [])]
    return Answer(document, shown, next=then)


def _only_project(project: Path | None) -> Answer:
    from foretune.cli.show_plan import outlook_shown
    from foretune.plan.project import outlook, read_project

    if project is None:
        raise ConfigError(
            "neither a job, a model nor a project is given",
            fix="foretune plan job.toml, or foretune plan --base llama-3.1-8b --gpu H100",
        )
    around = outlook(read_project(project))
    return Answer({"command": "plan", **_around(around)}, outlook_shown(around), next=around.advice.next_command)


def _forecast(given: Any, data: Path | None, project: Path | None, *, explain: bool) -> Answer:
    from foretune.cli.show_plan import forecast_shown, outlook_shown
    from foretune.plan.answer import answer
    from foretune.plan.project import Project, outlook, read_project

    forecast = answer(given, data=data)
    around = outlook(read_project(project) if project else Project(), forecast)
    document = {"command": "plan", **_pinned(forecast), **_around(around)}
    shown = [*forecast_shown(forecast, explain=explain), *(["", *outlook_shown(around)] if project else [])]
    then = "foretune plan --choices cheapest ..." if forecast.fits is False else "foretune init json-extract"
    return Answer(document, shown, next=then)


def _choices(given: Any, data: Path | None, goal: str, max_hours: float | None, max_cost: float | None) -> Answer:
    from foretune.cli.show_plan import offers_shown
    from foretune.plan.answer import requested_setup
    from foretune.plan.choice import Limits, goal_named, offers, sky_task

    setup, assumptions = requested_setup(given, data=data)
    methods = (given.method,) if given.method else ("lora", "qlora")
    found = offers(setup, goal=goal_named(goal), limits=Limits(max_hours, max_cost), methods=methods)
    document = {
        "command": "plan",
        "offers": [offer.model_dump(mode="json") for offer in found],
        "assumptions": list(assumptions),
        "launch": sky_task(found[0]),
    }
    return Answer(document, offers_shown(found), next=f"foretune plan --gpu '{found[0].device}' ... --explain")


def _pinned(forecast: Any) -> dict[str, Any]:
    return dict(forecast.model_dump(mode="json"))


def _around(around: Any) -> dict[str, Any]:
    """Advice, timeline and payback as plain values."""
    from dataclasses import asdict

    return {
        "advice": around.advice.model_dump(mode="json"),
        "timeline": around.timeline.model_dump(mode="json"),
        "payback": None if around.payback is None else asdict(around.payback),
        "pretraining": None if around.pretraining is None else around.pretraining.model_dump(mode="json"),
    }


command.__name__ = "plan"
