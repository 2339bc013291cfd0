"""`foretune plan`: should we, will it fit, how long, how much, before anything is spent."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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
from foretune.cli.plan_again import Asked
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
    Html,
    Job,
    Launch,
    LaunchAs,
    MaxSeqLen,
    Measured,
    Method,
    MicroBatchSize,
    NumExamples,
    NumGpus,
    OfferRow,
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
    launch: Launch = None,
    launch_as: LaunchAs = None,
    offer: OfferRow = None,
    project: ProjectFile = None,
    questions: ShowQuestions = False,
    batch: Batch = None,
    measured: Measured = None,
    scorecard: ShowScorecard = False,
    html: Html = None,
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
      foretune plan --choices affordable --max-cost 50
      foretune plan --questions > project.toml
      foretune plan --project project.toml
    """
    from foretune.cli import plan_answers, plan_choices
    from foretune.plan.request import parameter_count, plan_request

    if questions:
        return plan_answers.questions()
    if scorecard:
        return plan_answers.scorecard_of(runs_dir)
    if batch is not None:
        return plan_answers.batch(batch, measured)
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
    asked = Asked(given, job, data, project, html, max_cost or 0.0, max_hours or 0.0)
    is_bare = not given.model_fields_set
    if launch is not None or offer is not None or launch_as is not None:
        choices = choices or "cheapest"
    if job is not None and is_bare and choices is None:
        return plan_answers.job_plan(asked, parsed_settings(settings, seed=seed), probe=probe, runs_dir=runs_dir)
    if job is None and is_bare and data is None and choices is None:
        return plan_answers.only_project(asked)
    if job is not None:
        asked = plan_answers.of_job(asked, parsed_settings(settings, seed=seed))
    if choices is not None:
        return plan_choices.choices(asked, choices, launch, launch_as or "auto", offer or 1)
    return plan_answers.forecast_answer(asked, explain=explain)


command.__name__ = "plan"
