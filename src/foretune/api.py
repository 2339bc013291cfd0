"""The verbs as Python functions: what the command line does, for programs and notebooks."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foretune import journey
from foretune.backends.local import start_detached, stop_process, stop_training
from foretune.backends.processes import check_processes, keep_processes
from foretune.config.job import JobConfig
from foretune.config.read import ResolvedJob, field_names, resolve_job
from foretune.config.settings import settings_of
from foretune.config.smoke import smoked
from foretune.data.faults import REJECTED_FILE
from foretune.data.token_shards import are_tokens_ready, check_has_rows
from foretune.engine.chat import Chat
from foretune.errors import NotFound
from foretune.journey import STAGES, Measure, Outcome, Stage, fresh_run
from foretune.records.audit import AuditRecord
from foretune.records.base import write_atomically
from foretune.records.comparison import ComparisonRecord
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.forecast import Forecast, Offer
from foretune.records.plan import PlanRecord
from foretune.records.procedure import ProcedureRecord
from foretune.records.run import DEFAULT_RUNS_DIR, ResolvedRecord, RunState, find_run, list_runs, run_pid, run_state
from foretune.records.training import TrainingRecord
from foretune.steps import Run, Watcher, auto_run, create_job_run, diagnose_run, reconcile_run, set_shown
from foretune.train.sweep_plan import Sweep

if TYPE_CHECKING:
    from foretune.compare.lineage import Lineage
    from foretune.plan.affordable import Affordable
    from foretune.plan.auto import AutoJob
    from foretune.plan.faq import Answered
    from foretune.plan.launch import Launch
    from foretune.plan.project import Outlook
    from foretune.plan.whole import WholePlan

__all__ = [
    "TEMPLATES",
    "Audited",
    "Chat",
    "JobLike",
    "RunInfo",
    "RunLike",
    "Sweep",
    "affordable",
    "audit",
    "audited",
    "chat",
    "compare",
    "decide",
    "diagnose",
    "evaluate",
    "faq",
    "forecast",
    "forecast_table",
    "init",
    "init_from_data",
    "launch",
    "lineage",
    "next_job",
    "offers",
    "outlook",
    "plan",
    "resume",
    "run",
    "run_info",
    "runs",
    "settings_of",
    "stop",
    "train",
    "watch",
    "whole_plan",
]

JobLike = ResolvedJob | JobConfig | str | Path
RunLike = str | Path
TEMPLATES = ("json-extract", "sentiment", "support-chat", "news-summary")
BEFORE_TRAINING: tuple[Stage, ...] = ("collect", "audit", "plan")
EMBEDDED = "pebble"
HUB = "hf:"  # begins the name of a data set of the Hugging Face hub
JOURNEY_LOG = "journey.log"


def init(template: str, folder: str | Path | None = None, *, num_rows: int | None = None, seed: int = 0) -> Path:
    """Write a template's `job.toml`, its generated data and their source card into `folder`; the path of the job file.

    Use cases that come without data (`foretune.config.examples`) leave the job alone. Raises NotFound for an unknown
    template, ConfigError rather than overwrite anything.
    """
    from foretune.collect.templates import write_template

    return write_template(template, Path(folder or template), num_rows=num_rows, seed=seed)


def init_from_data(
    data: str | Path, folder: str | Path | None = None, *, base: str = EMBEDDED, **options: Any
) -> tuple[Path, AutoJob]:
    """Write a `job.toml` for one's own rows, left where they are; its path, and every choice with its reason.

    `options` are `seed` and `settings` (`{"data.target_field": "reply"}`). Raises DataError, NotFound, ConfigError.
    """
    from foretune.collect.collect import SOURCES_DIR, local_path
    from foretune.plan import auto

    known, target = auto.known_base(base), auto.own_folder(str(data), folder)
    check_has_rows(str(data), Path.cwd())
    local = local_path(str(data), Path.cwd(), Path(DEFAULT_RUNS_DIR) / SOURCES_DIR)
    draft = auto.draft_job(str(data), local, known, target, **options)
    with _scratch(resolved(draft.job)) as scratch:
        chosen = auto_run(scratch, draft)
    write_atomically(target / auto.JOB_FILE, chosen.text)
    return target / auto.JOB_FILE, chosen


def resolved(job: JobLike) -> ResolvedJob:
    """A job given in any form, with the origin of every value. Raises ConfigError, NotFound."""
    if isinstance(job, ResolvedJob):
        return job
    if isinstance(job, JobConfig):
        return ResolvedJob(job, dict.fromkeys(field_names(), "flag"), Path.cwd())
    return resolve_job(job)


def run(
    job: JobLike,
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    watcher: Watcher | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
    reuse_test: bool = False,
    dry_run: bool = False,
    detach: bool = False,
    at_end: Callable[[Path], object] | None = None,
    source: str | Path | None = None,
    skip_advice: str | None = None,
) -> Outcome:
    """The journey: collect, audit, plan, train, evaluate, diagnose, with a gate after each.

    `dry_run` stops after the plan; `detach` leaves everything after it to a process of its own; `source` is the file
    that a ResolvedJob came from, kept in the run folder; `skip_advice` why nobody asks whether to train at all. Raises
    what a gate raises: DataError, DoesNotFit, GateRefused, TrainingDiverged; and ConfigError, NotFound.
    """
    given = resolved(job)
    run_dir = _create(source or job, given, Path(runs_dir))
    if not are_tokens_ready(given.job.data.path, given.folder):
        journey.mark_journey(run_dir)
    stages = _stages(given.job, given.folder, STAGES)
    if dry_run or detach:
        stages = tuple(stage for stage in stages if stage in BEFORE_TRAINING)
    with fresh_run(run_dir):
        outcome = journey.run_stages(
            run_dir,
            stages=stages,
            watcher=watcher,
            approve=approve,
            reuse_test=reuse_test,
            at_end=at_end,
            skip_advice=skip_advice,
        )
    if detach and not dry_run:
        _start_journey(run_dir, reuse_test)
        return Outcome(run_dir, "running")
    return outcome


def train(
    job: JobLike,
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    watcher: Watcher | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
    detach: bool = False,
    foreground: bool = False,
    smoke: bool = False,
    source: str | Path | None = None,
    skip_advice: str | None = None,
    num_processes: int = 1,
    sweep: Sweep | None = None,
) -> Outcome:
    """Collect, audit and plan, then train, as a process unless `foreground`; `smoke`: two steps on 200 rows.

    `num_processes` share every update; `sweep` tries many settings and keeps the best (`Sweep(["lr=1e-4,2e-4"])`).
    """
    given = smoked(resolved(job)) if smoke else resolved(job)
    check_processes(given.job, num_processes)
    planned = sweep.planned(given.job) if sweep is not None else None
    run_dir = _create(source or job, given, Path(runs_dir))
    if planned is not None:
        approve = planned.write(run_dir, lambda plan: journey.check_plan(plan, given.job, run_dir), approve)
    keep_processes(run_dir, given.job, num_processes)
    before = tuple(stage for stage in _stages(given.job, given.folder, BEFORE_TRAINING) if stage != "train")
    stages: tuple[Stage, ...] = before if foreground else (*before, "train")
    with fresh_run(run_dir):
        outcome = journey.run_stages(
            run_dir,
            stages=stages,
            watcher=watcher,
            approve=approve,
            probe=False,
            detach=detach,
            skip_advice=skip_advice,
        )
        return _train_here(run_dir) if foreground else outcome


def _train_here(run_dir: Path) -> Outcome:
    from foretune.train.here import train_run

    is_done = train_run(run_dir) is not None
    return Outcome(run_dir, "done" if is_done else "stopped", interrupted=not is_done)


def plan(job: JobLike, *, probe: bool = False) -> PlanRecord:
    """Parameters, memory, time and money of a job; `probe` measures a few real steps here. Leaves nothing on disk."""
    given = resolved(job)
    check_has_rows(given.job.data.path, given.folder)
    with _scratch(given) as scratch:
        journey.do_stage(scratch, "collect")
        record = journey.do_stage(scratch, "plan", probe=probe)
    assert isinstance(record, PlanRecord)
    return record


def forecast(*, data: str | Path | None = None, **request: Any) -> Forecast:
    """What training would take on any device, without a job: `forecast(base="llama-3.1-8b", gpu="H100", ...)`.

    `request` are the fields of `plan.request.PlanRequest`, `data` a file of samples whose lengths count. Raises
    ConfigError for a value that cannot be, an unknown model or an unknown device, with the closest names.
    """
    from foretune.plan.answer import answer
    from foretune.plan.request import plan_request

    return answer(plan_request(**request), data=None if data is None else Path(data))


def forecast_table(path: str | Path, measured: str | Path | None = None) -> list[dict[str, Any]]:
    """A forecast for every row of a CSV file, calibrated by a table of measured runs where one is given."""
    from foretune.plan.batch import forecast_table as forecast_all

    return forecast_all(Path(path), None if measured is None else Path(measured))


def offers(
    *,
    goal: str = "cheapest",
    max_hours: float | None = None,
    max_cost_usd: float | None = None,
    methods: Sequence[str] = (),
    data: str | Path | None = None,
    hosted: bool = True,
    **request: Any,
) -> list[Offer]:
    """Every priced way of running a job that fits, the best by `goal` (cheapest, fastest, smallest) first.

    Rented devices, and providers that train for you unless `hosted` is False.

    Raises DoesNotFit where nothing fits, GateRefused where nothing that fits keeps the limits.
    """
    from foretune.plan.answer import requested_setup
    from foretune.plan.choice import Limits, goal_named
    from foretune.plan.choice import offers as all_offers
    from foretune.plan.request import plan_request

    setup, _ = requested_setup(plan_request(**request), data=None if data is None else Path(data))
    limits = Limits(max_hours, max_cost_usd)
    return all_offers(setup, goal=goal_named(goal), limits=limits, methods=methods, hosted=hosted)


def whole_plan(
    *, data: str | Path | None = None, project: str | Path | None = None, max_cost_usd: float = 0.0, **request: Any
) -> WholePlan:
    """Forecast, advice, timeline, costs, place and pilot in one: what `foretune plan --json` prints.

    Raises what `forecast` raises, and GateRefused where the expected cost is above `max_cost_usd`.
    """
    from foretune.plan.request import plan_request
    from foretune.plan.whole import whole_plan as plan_all

    samples, told = (None if path is None else Path(path) for path in (data, project))
    return plan_all(plan_request(**request), data=samples, project=told, max_cost_usd=max_cost_usd)


def affordable(budget_usd: float, *, data: str | Path | None = None, **request: Any) -> list[Affordable]:
    """What a budget buys, largest model first: the request's model, or a ladder of open ones. Raises GateRefused."""
    from foretune.plan.affordable import affordable as all_within
    from foretune.plan.request import plan_request

    return all_within(budget_usd, plan_request(**request), data=None if data is None else Path(data))[0]


def launch(offer: Offer, *, job: str = "job.toml", kind: str = "auto") -> Launch:
    """The file that would start `offer`: a SkyPilot task, a script, a provider's request, or a job of `kind`.

    Nothing is sent. Raises ConfigError for an unknown kind, or one that has no such machine.
    """
    from foretune.plan.launch import LaunchJob
    from foretune.plan.launch import launch as launch_of

    return launch_of(offer, LaunchJob(job=job, method=offer.method), kind)


def faq(topic: str) -> Answered:
    """The answer to a question, its figures computed now. Raises NotFound with the closest topics."""
    from foretune.plan.faq import answered, find_entry

    return answered(find_entry(topic))


def outlook(project: str | Path | None = None, forecast: Forecast | None = None) -> Outlook:
    """Should we, how many weeks, does it pay: what follows from a project file, and from a forecast if one is given."""
    from foretune.plan.project import Project, read_project
    from foretune.plan.project import outlook as outlook_of

    return outlook_of(Project() if project is None else read_project(Path(project)), forecast)


def decide(
    job_or_run: JobLike, *, measure: Collection[Measure] = ("baseline", "failures"), **options: Any
) -> ProcedureRecord:
    """Should we fine-tune: measure what is named, then pass the gates; `options` are those of `journey.decide`."""
    is_run = isinstance(job_or_run, (str, Path)) and not Path(job_or_run).is_file()
    runs_dir = options.get("runs_dir", DEFAULT_RUNS_DIR)
    given = find_run(runs_dir, str(job_or_run)) if is_run else resolved(job_or_run)
    return journey.decide(given, measure=measure, **options)


def audit(job_or_file: JobLike, *, settings: Mapping[str, Any] | None = None) -> AuditRecord:
    """What is wrong with the data of a job, of one data file or of a data set of the hub (`hf:owner/name`).

    `settings` maps dotted fields to values. Raises DataError where it cannot be read, NotFound, ConfigError.
    """
    return audited(job_or_file, settings=settings).audit


class Audited(NamedTuple):
    """An audit with the record of the data that it is about: splits, sources, warnings, rows put aside."""

    dataset: DatasetRecord
    audit: AuditRecord


def audited(
    job_or_file: JobLike,
    *,
    settings: Mapping[str, Any] | None = None,
    rejected: str | Path | None = None,
    at_end: Callable[[Path], object] | None = None,
) -> Audited:
    """As `audit`, with the data's record; `rejected` takes faulty rows, `at_end` the run folder before it is gone."""
    aside = {} if rejected is None else {"data.advanced.on_fault": "reject"}
    given = _as_job(job_or_file, {**(settings or {}), **aside})
    check_has_rows(given.job.data.path, given.folder)
    with _scratch(given) as scratch:
        dataset = journey.do_stage(scratch, "collect")
        assert isinstance(dataset, DatasetRecord)
        faulty = scratch.run_dir / REJECTED_FILE
        if rejected is not None and faulty.is_file():
            write_atomically(Path(rejected), faulty.read_bytes())
        kept = f"put aside in {rejected}" if rejected else "left out; --rejected FILE keeps them"
        told = (text.replace(f"put aside in {REJECTED_FILE} of the run", kept) for text in dataset.warnings)
        dataset = dataset.model_copy(update={"warnings": tuple(told)})
        record = journey.audit_stage(scratch)
        at_end(scratch.run_dir) if at_end is not None else None
        return Audited(dataset, record)


def _as_job(job_or_file: JobLike, settings: Mapping[str, Any]) -> ResolvedJob:
    if not isinstance(job_or_file, (str, Path)):
        return resolved(job_or_file)
    if str(job_or_file).startswith(HUB):
        return resolve_job(None, {"data.path": str(job_or_file), **settings})
    path = Path(job_or_file)
    if path.suffix == ".toml":
        return resolve_job(path, settings)
    if not path.exists():
        raise NotFound(f"no file {path}", fix="give a job file (*.toml) or a data file (*.jsonl, *.csv, ...)")
    return resolve_job(None, {"data.path": str(path.resolve()), **settings})


def evaluate(
    run: RunLike = "latest",
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    reuse_test: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> EvaluationRecord:
    """The verdict on the sealed test; `settings` change what is shown beside it. Raises GateRefused, ConfigError."""
    from foretune.evaluate.evaluate import evaluate as now

    here = Run.open(find_run(runs_dir, str(run)))
    _needs_training(here.run_dir)
    here = set_shown(here, settings) if settings else here
    if not TrainingRecord.read(here.run_dir).reconciliation:
        reconcile_run(here)
    folders = {"run_dir": here.run_dir, "runs_dir": here.runs_dir, "folder": here.folder}
    return now(here.job, **folders, reuse_test=reuse_test, shown_anew=bool(settings), on_progress=on_progress)


def diagnose(
    run: RunLike = "latest",
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    probe: bool = True,
    quick: bool = False,
    reword: str = "",
    watcher: Watcher | None = None,
) -> DiagnosisRecord:
    """Which failure modes a run shows; `probe` asks its models first where nobody did yet. Raises NotFound.

    `reword` asks its samples in other words too: by "rules", or by the model of an endpoint, `URL#MODEL`.
    """
    here = Run.open(find_run(runs_dir, str(run)), watcher=watcher)
    return diagnose_run(here, probe=probe, quick=quick, reword=reword)


def next_job(
    run: RunLike, number: int, out: str | Path, *, runs_dir: str | Path = DEFAULT_RUNS_DIR
) -> tuple[Path, dict[str, Any]]:
    """Write the job of `run` with the settings that mend cause `number` (from 1); the file and what was changed.

    Where rows must change, train, validation and test are written beside it, into `<out>-data`, train without the rows
    that the cause names; the user's own files stay as they are. Raises NotFound where the diagnosis has no such cause,
    ConfigError rather than overwrite `out` or where the cause has no change to apply.
    """
    from foretune.diagnose.next_job import write_next_job

    return write_next_job(find_run(runs_dir, str(run)), number, Path(out))


def compare(*runs: RunLike, runs_dir: str | Path = DEFAULT_RUNS_DIR, **options: Any) -> ComparisonRecord:
    """Runs (or RUN:system) on the same samples, split traffic (`outcomes=`), or both; options as `compare.compare`."""
    from foretune.compare import compare as stage
    from foretune.records.run import find_system

    return stage.compare([find_system(runs_dir, str(run)) for run in runs], **options)


def chat(run: RunLike = "latest", *, runs_dir: str | Path = DEFAULT_RUNS_DIR, base: bool = False) -> Chat:
    """What a run made, to talk to; its base where `base`; or the embedded `pebble`. Raises NotFound."""
    from foretune.engine.chat import ChatEngine
    from foretune.engine.engine import load_engine
    from foretune.models.base import resolve_base

    if str(run) == EMBEDDED:
        return Chat(EMBEDDED, ChatEngine(load_engine(resolve_base(EMBEDDED))))
    here = Run.open(find_run(runs_dir, str(run)))
    _needs_training(here.run_dir)
    artefact = here.run_dir / TrainingRecord.read(here.run_dir).artefact
    engine = load_engine(resolve_base(here.job.base, here.folder), None if base else artefact)
    name = here.job.base if base else here.run_dir.name
    return Chat(name, ChatEngine(engine, max_seq_len=here.job.train.max_seq_len), here.usual_system())


# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunInfo:
    """A run at a glance; `verdict` and `seconds` once they are known."""

    run_id: str
    run_dir: Path
    state: RunState
    stage: str  # under way now, "" if nothing is
    base: str
    method: str
    created: str
    verdict: str = ""
    seconds: float | None = None


def run_info(run_dir: Path) -> RunInfo:
    """The run in a folder at a glance."""
    record = ResolvedRecord.read(run_dir)
    training = TrainingRecord.read(run_dir) if TrainingRecord.exists(run_dir) else None
    verdict = EvaluationRecord.read(run_dir).verdict if EvaluationRecord.exists(run_dir) else ""
    job = record.job
    return RunInfo(
        run_id=record.run_id,
        run_dir=run_dir,
        state=run_state(run_dir),
        stage=journey.stage_under_way(run_dir),
        base=str(job["base"]),
        method=str(job["train"]["method"]),
        created=record.created,
        verdict=verdict,
        seconds=training.seconds if training else None,
    )


def runs(runs_dir: str | Path = DEFAULT_RUNS_DIR) -> list[RunInfo]:
    """Every run at a glance, oldest first."""
    return [run_info(path) for path in list_runs(runs_dir)]


def lineage(run: RunLike = "latest", *, runs_dir: str | Path = DEFAULT_RUNS_DIR) -> Lineage:
    """The runs that led to this one, oldest first: what each changed against the one before, and what that brought."""
    from foretune.compare.lineage import lineage as line_of

    return line_of(find_run(runs_dir, str(run)))


def resume(
    run: RunLike = "latest",
    *,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    watcher: Watcher | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
    reuse_test: bool = False,
    detach: bool = False,
    at_end: Callable[[Path], object] | None = None,
    num_processes: int | None = None,
) -> Outcome:
    """Go on with a run where it stands: what left its record is kept, training continues at its last checkpoint."""
    run_dir = find_run(runs_dir, str(run))
    record = ResolvedRecord.read(run_dir)
    job = JobConfig.model_validate(record.job)
    if num_processes is not None:
        keep_processes(run_dir, job, num_processes)
    whole = journey.is_journey(run_dir)
    if detach:
        if whole:
            _start_journey(run_dir, reuse_test)
        else:
            journey.train_stage(Run.open(run_dir), detach=True)
        return Outcome(run_dir, "running")
    stages = _stages(job, Path(record.folder), STAGES if whole else (*BEFORE_TRAINING, "train"))
    return journey.run_stages(
        run_dir, stages=stages, watcher=watcher, approve=approve, reuse_test=reuse_test, probe=whole, at_end=at_end
    )


def watch(
    run: RunLike = "latest", *, runs_dir: str | Path = DEFAULT_RUNS_DIR, watcher: Watcher | None = None
) -> Outcome:
    """Follow a run until nothing works on it any more; leaving (Ctrl-C) does not touch it."""
    return journey.watch_run(find_run(runs_dir, str(run)), watcher=watcher)


def stop(run: RunLike = "latest", *, runs_dir: str | Path = DEFAULT_RUNS_DIR, abort: bool = False) -> bool:
    """Stop a run: training writes a checkpoint first unless `abort`. False where nothing was running."""
    run_dir = find_run(runs_dir, str(run))
    pid = run_pid(run_dir)
    if pid is not None and abort:
        stop_process(pid, abort=True)
        return True
    if pid is not None:
        return stop_training(run_dir)
    pid = journey.journey_pid(run_dir)
    if pid is not None:
        stop_process(pid, abort=abort)
    return pid is not None


def _start_journey(run_dir: Path, reuse_test: bool) -> None:
    arguments = ["foretune", "runs", "resume", run_dir.name, "--runs-dir", str(run_dir.parent.resolve()), "--yes"]
    start_detached([*arguments, *(["--reuse-test"] if reuse_test else [])], log=run_dir / JOURNEY_LOG)


def _create(job: JobLike, given: ResolvedJob, runs_dir: Path) -> Path:
    source = Path(job) if isinstance(job, (str, Path)) else None
    return create_job_run(given, runs_dir=runs_dir, source=source)


def _stages(job: JobConfig, folder: Path, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return ("train",) if are_tokens_ready(job.data.path, folder) else stages


def _needs_training(run_dir: Path) -> None:
    if not TrainingRecord.exists(run_dir):
        state = run_state(run_dir)
        verb = "watch" if state == "training" else "resume"
        raise NotFound(f"run {run_dir.name} is not trained yet ({state})", fix=f"foretune runs {verb} {run_dir.name}")


@contextmanager
def _scratch(given: ResolvedJob) -> Iterator[Run]:
    """A run that is gone afterwards, for verbs that only look; what it fetches from the hub stays beside the runs."""
    from foretune.collect.collect import SOURCES_DIR

    folder = Path(tempfile.mkdtemp(prefix="foretune-"))
    try:
        sources = Path(DEFAULT_RUNS_DIR) / SOURCES_DIR
        yield replace(Run.open(create_job_run(given, runs_dir=folder)), sources_dir=sources)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
