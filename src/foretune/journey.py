"""The journey: the verbs in order on one run folder, a gate after each; a killed journey goes on where it stood."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from foretune.backends.local import TRAIN_LOG, exit_code, failure_of, is_alive, start_training, stop_process
from foretune.config.job import JobConfig
from foretune.config.read import ResolvedJob
from foretune.config.settings import with_settings
from foretune.diagnose.live import LiveDiagnosis
from foretune.errors import ConfigError, DataError, DoesNotFit, Fault, ForetuneError, GateRefused
from foretune.records.audit import AuditRecord
from foretune.records.base import Record
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.events import EventLog, read_events, tail_events
from foretune.records.failures import FailuresRecord
from foretune.records.learning_curve import LearningCurveRecord
from foretune.records.lock import held_lock, lock_pid
from foretune.records.plan import PlanRecord
from foretune.records.procedure import ProcedureRecord
from foretune.records.run import DEFAULT_RUNS_DIR, ResolvedRecord, run_pid, run_state
from foretune.records.training import TrainingRecord
from foretune.steps import (
    Run,
    Silent,
    Watcher,
    audit_run,
    borrow_run,
    collect_run,
    create_job_run,
    decide_run,
    diagnose_run,
    evaluate_run,
    is_base_measured,
    measure_base_run,
    plan_run,
    reconcile_run,
)
from foretune.units import show_bytes, show_seconds, show_usd

__all__ = [
    "MEASURES",
    "STAGES",
    "Outcome",
    "Stage",
    "advised_stage",
    "audit_stage",
    "check_audit",
    "check_plan",
    "check_procedure",
    "check_test",
    "decide",
    "decide_stage",
    "do_stage",
    "is_journey",
    "journey_pid",
    "mark_journey",
    "run_stages",
    "stage_under_way",
    "started_pid",
    "train_part",
    "train_stage",
    "watch_run",
]

Stage = Literal["collect", "audit", "plan", "train", "evaluate", "diagnose"]
STAGES: tuple[Stage, ...] = ("collect", "audit", "plan", "train", "evaluate", "diagnose")
Measure = Literal["baseline", "failures", "curve"]
MEASURES: tuple[Measure, ...] = ("baseline", "failures", "curve")
JOURNEY = "journey"  # stage name of the event that marks a run as a whole journey
JOURNEY_LOCK = ".journey.lock"
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Outcome:
    """How far a journey came: `done` all its stages, `stopped` by someone while training, or `running` without us."""

    run_dir: Path
    state: Literal["done", "stopped", "running"]
    interrupted: bool = False


# --- the journey ----------------------------------------------------------------------------------------------------


def run_stages(
    run_dir: Path,
    *,
    stages: tuple[Stage, ...] = STAGES,
    watcher: Watcher | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
    reuse_test: bool = False,
    probe: bool = True,
    detach: bool = False,
    at_end: Callable[[Path], object] | None = None,
    skip_advice: str | None = None,
) -> Outcome:
    """Take a run through `stages`, in order; what already left its record is not done again.

    `approve` is asked once the plan stands and may raise; `at_end` gets the run folder when the journey ends or a
    gate closes it; `detach` leaves after training has started; `skip_advice` says why nobody asks whether to train at
    all, which is recorded. Raises what a gate raises: DataError (audit),
    DoesNotFit and GateRefused (plan), TrainingDiverged.
    """
    run = Run.open(run_dir, watcher=watcher, skip_advice=skip_advice)
    outcome = Outcome(run_dir, "done")
    with journey_lock(run_dir):
        try:
            for stage in stages:
                if stage == "train":
                    outcome = train_stage(run, detach=detach)
                    if outcome.state != "done":
                        break
                    continue
                if stage == "plan" and is_journey(run_dir) and not TrainingRecord.exists(run_dir):
                    check_procedure(advised_stage(run), run)
                record = do_stage(run, stage, reuse_test=reuse_test, probe=probe)
                if isinstance(record, DatasetRecord) and is_journey(run_dir) and not reuse_test:
                    check_test(record, run)
                if isinstance(record, PlanRecord) and not TrainingRecord.exists(run_dir):
                    check_plan(record, run.job, run_dir)
                    if approve is not None:
                        approve(record)
        except ForetuneError:
            _finish(run, at_end)
            raise
        _finish(run, at_end)
    return outcome


@contextmanager
def fresh_run(run_dir: Path) -> Iterator[None]:
    """Take a new run folder away again where not even the data could be read: there is nothing to go on with."""
    try:
        yield
    except ForetuneError:
        if not DatasetRecord.exists(run_dir) and not (run_dir / TRAIN_LOG).exists():
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


def _finish(run: Run, at_end: Callable[[Path], object] | None) -> None:
    """What is left to do however the journey ended; its own failure must not hide how that was."""
    if at_end is None:
        return
    try:
        at_end(run.run_dir)
    except ForetuneError as error:
        run.watcher.note(f"no report: {error}")


def do_stage(run: Run, stage: Stage, *, reuse_test: bool = False, probe: bool = True) -> Record:
    """Do one stage unless its record is there, tell the watcher, and pass its gate."""
    steps: dict[str, tuple[type[Record], Callable[[], Record]]] = {
        "collect": (DatasetRecord, lambda: collect_run(run)),
        "audit": (AuditRecord, lambda: audit_run(run)),
        "plan": (PlanRecord, lambda: plan_run(run, probe=probe)),
        "evaluate": (EvaluationRecord, lambda: _evaluated(run, reuse_test)),
        "diagnose": (DiagnosisRecord, lambda: diagnose_run(run)),
    }
    kind, step = steps[stage]
    if kind.exists(run.run_dir):
        record: Record = kind.read(run.run_dir)
    else:
        record = _timed(run, stage, step)
    if isinstance(record, AuditRecord):
        check_audit(record, run.run_dir.name)
    return record


def audit_stage(run: Run) -> AuditRecord:
    """The audit of a collected run, without the gate."""
    return _timed(run, "audit", lambda: audit_run(run))


def _evaluated(run: Run, reuse_test: bool) -> EvaluationRecord:
    began = time.monotonic()
    record = evaluate_run(run, reuse_test=reuse_test)
    reconcile_run(run, evaluate_seconds=time.monotonic() - began)
    return record


def _timed(run: Run, stage: str, step: Callable[[], R]) -> R:
    _stage_event(run.run_dir, stage, "start")
    run.watcher.stage_started(stage, run.run_dir)
    began = time.monotonic()
    record = step()
    seconds = time.monotonic() - began
    _stage_event(run.run_dir, stage, "end", seconds=round(seconds, 3))
    run.watcher.stage_ended(stage, record, seconds)
    return record


def _stage_event(run_dir: Path, stage: str, state: str, **values: Any) -> None:
    with EventLog(run_dir) as log:
        log.add("stage", stage=stage, state=state, **values)


def mark_journey(run_dir: Path) -> None:
    """Say in the event log that this run is to go through all stages, so that resuming it does."""
    _stage_event(run_dir, JOURNEY, "start")


def is_journey(run_dir: Path) -> bool:
    """Whether a run was started as a whole journey, not as training alone."""
    return any(event["kind"] == "stage" and event.get("stage") == JOURNEY for event in read_events(run_dir))


def journey_lock(run_dir: Path) -> AbstractContextManager[None]:
    """Keep a second journey off the same run. Raises ConfigError while one is under way."""

    def busy(pid: int | None) -> ConfigError:
        return ConfigError(
            f"run {run_dir.name} is already under way in process {pid}", fix=f"foretune runs watch {run_dir.name}"
        )

    return held_lock(run_dir / JOURNEY_LOCK, busy=busy)


def stage_under_way(run_dir: Path) -> str:
    """The stage that a living process is in now, or ""."""
    if run_pid(run_dir) is not None or started_pid(run_dir) is not None:
        return "train"
    if journey_pid(run_dir) is None:
        return ""
    stages = [event for event in read_events(run_dir) if event["kind"] == "stage" and event.get("stage") != JOURNEY]
    return str(stages[-1]["stage"]) if stages and stages[-1].get("state") == "start" else ""


def started_pid(run_dir: Path) -> int | None:
    """The training process that was started and has not said a word yet, if it lives."""
    kinds = ("process", "train_start", "train_end", "failed")
    last = next((event for event in reversed(read_events(run_dir)) if event["kind"] in kinds), None)
    if last is None or last["kind"] != "process" or not is_alive(int(last["pid"])):
        return None
    return int(last["pid"])


def journey_pid(run_dir: Path) -> int | None:
    """The process that takes this run through its stages now, or None."""
    return lock_pid(run_dir / JOURNEY_LOCK)


# --- should it be trained at all ------------------------------------------------------------------------------------


def decide_stage(
    run: Run,
    *,
    measure: Collection[Measure] = (),
    project: Path | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
) -> ProcedureRecord:
    """Measure what is named and not measured yet, then pass the gates; `procedure.json` keeps them with their numbers.

    `curve` trains the run and parts of its data; `approve` is asked about the price of each.
    """
    borrow_run(run)
    if {"baseline", "failures"} & set(measure) and not is_base_measured(run, ask_again="failures" in measure):
        try:
            _timed(run, "decide", lambda: measure_base_run(run, ask_again="failures" in measure))
        except DataError as error:  # too few samples, which the first gate says too
            run.watcher.note(f"the base is not measured: {error.what}")
    if "curve" in measure:
        _measure_curve(run, approve)
    return decide_run(run, project=project)


def decide(
    given: ResolvedJob | Path,
    *,
    measure: Collection[Measure] = (),
    project: Path | None = None,
    runs_dir: str | Path = DEFAULT_RUNS_DIR,
    source: Path | None = None,
    watcher: Watcher | None = None,
    approve: Callable[[PlanRecord], object] | None = None,
    at_end: Callable[[Path], object] | None = None,
) -> ProcedureRecord:
    """Should we fine-tune, for a job (a new run folder, which a journey can go on with) or the folder of a run.

    `source` is the file that the job came from. Raises DataError where the audit finds errors.
    """
    if isinstance(given, Path):
        run_dir = given
    else:
        run_dir = create_job_run(given, runs_dir=Path(runs_dir), source=source)
        mark_journey(run_dir)
    with fresh_run(run_dir):  # nothing here opens the test split, so another run may have done so
        run_stages(run_dir, stages=("collect", "audit"), watcher=watcher, reuse_test=True)
    run = Run.open(run_dir, watcher=watcher)
    record = decide_stage(run, measure=measure, project=project, approve=approve)
    _finish(run, at_end)
    return record


def advised_stage(run: Run) -> ProcedureRecord | None:
    """The gates of a journey; what its project file asks is measured first. None where nobody asks, nothing is known.

    What cannot be measured is noted and stays unknown.
    """
    from foretune.plan.decision import PROJECT_FILE

    if run.skip_advice is not None:
        return None
    is_asked = (run.folder / PROJECT_FILE).is_file()
    try:
        return decide_stage(run, measure=("baseline", "failures")) if is_asked else _known_gates(run)
    except ConfigError as error:
        run.watcher.note(f"the base is not measured: {error.what}")
        return decide_run(run)


def _known_gates(run: Run) -> ProcedureRecord | None:
    """The gates where measurements are there already."""
    borrow_run(run)
    is_known = FailuresRecord.exists(run.run_dir) or LearningCurveRecord.exists(run.run_dir)
    return decide_run(run) if is_known else None


def train_part(
    run: Run,
    settings: Mapping[str, Any],
    *,
    folder: str,
    why: str,
    approve: Callable[[PlanRecord], object] | None = None,
) -> Path:
    """Train the run's job with `settings` changed, in `folder` below the run; `why` nobody asks whether to train.

    The folder of the new run. Raises KeyboardInterrupt where it was stopped, and what a gate raises.
    """
    given = ResolvedJob(with_settings(run.job, settings), {}, run.folder)
    part = create_job_run(given, runs_dir=run.run_dir / folder)
    return _trained(part, ("collect", "audit", "plan", "train"), run, why, approve)


def _trained(
    run_dir: Path,
    stages: tuple[Stage, ...],
    run: Run,
    why: str,
    approve: Callable[[PlanRecord], object] | None,
) -> Path:
    outcome = run_stages(run_dir, stages=stages, watcher=run.watcher, approve=approve, probe=False, skip_advice=why)
    if outcome.state != "done":
        raise KeyboardInterrupt
    return run_dir


def _measure_curve(run: Run, approve: Callable[[PlanRecord], object] | None) -> None:
    """Train nested parts of the data, and the run unless they rule a gain out; ask what it fails with the facts."""
    from foretune.evaluate.failure_kinds import measure_left
    from foretune.evaluate.learning_curve import CURVE_FOLDER, Part, measure_curve, measure_early

    why = "the learning curve is part of the decision"

    def train_on(part: Part) -> Path:
        return train_part(run, part.settings, folder=CURVE_FOLDER, why=why, approve=approve)

    folders: dict[str, Any] = {"run_dir": run.run_dir, "runs_dir": run.runs_dir, "folder": run.folder}
    if not LearningCurveRecord.exists(run.run_dir):
        options = {**folders, "train_on": train_on, "on_progress": run.watcher.progress}
        if TrainingRecord.exists(run.run_dir) or measure_early(run.job, **options) is None:
            if not TrainingRecord.exists(run.run_dir):
                _trained(run.run_dir, ("plan", "train"), run, why, approve)
            measure_curve(run.job, **options)
    if LearningCurveRecord.exists(run.run_dir) and LearningCurveRecord.read(run.run_dir).parts[-1].share < 1:
        return  # a part of the data showed that all of it will not do: there is no trained model to ask
    if FailuresRecord.exists(run.run_dir) and FailuresRecord.read(run.run_dir).tuned_left is None:
        measure_left(run.job, **folders, on_progress=run.watcher.progress)


# --- gates ----------------------------------------------------------------------------------------------------------


def check_audit(record: AuditRecord, run_id: str) -> None:
    """Raise DataError with every error found, if there is one."""
    if not record.num_errors:
        return
    bad = [finding for finding in record.findings if finding.severity == "error"]
    faults = tuple(
        Fault(
            file=finding.places[0].rpartition(":")[0] if finding.places else "data",
            line=int(finding.places[0].rpartition(":")[2]) if finding.places and _has_line(finding.places[0]) else 0,
            what=f"{finding.id} {finding.title} ({finding.count} rows)",
            fix=finding.fix,
        )
        for finding in bad
    )
    noun = "error" if len(bad) == 1 else "errors"
    raise DataError(f"the audit found {len(bad)} {noun} in the data", fix=f"mend the data ({run_id})", faults=faults)


def check_procedure(record: ProcedureRecord | None, run: Run) -> None:
    """Raise GateRefused where a gate says not to train now, unless there is a reason to skip the advice."""
    if record is None or run.skip_advice is not None or not record.stops_training:
        return
    first = f"{record.next_command}, or " if record.next_command else ""
    raise GateRefused(
        f"stopped before training, at the gate {record.stopped_at!r}: {record.sentence}",
        fix=f"{first}foretune run {ResolvedRecord.read(run.run_dir).job_file} --skip-advice 'why'",
    )


def check_test(record: DatasetRecord, run: Run) -> None:
    """Raise GateRefused where another run has opened this test split: better now than when training is paid for."""
    from foretune.data.ledger import TestLedger

    if TrainingRecord.exists(run.run_dir):
        return
    looks = TestLedger(run.runs_dir).looks(record.version)
    earlier = [look for look in looks if not look.refused and look.run_id != run.run_dir.name]
    if earlier:
        raise GateRefused(
            f"the test split of dataset {record.version} was opened by run {earlier[-1].run_id} on {earlier[-1].time}: "
            "a second verdict on it would be too optimistic",
            fix="new test data (data.test_path), or --reuse-test to accept that, or `foretune train` for no verdict",
        )


def _has_line(place: str) -> bool:
    return place.rpartition(":")[2].isdigit()


def check_plan(record: PlanRecord, job: JobConfig, folder: Path) -> None:
    """Raise DoesNotFit where memory, or the disk of `folder`, is too small, GateRefused where the job's budget is."""
    if not record.fits:
        raise DoesNotFit(
            f"needs {record.peak_memory_gb.expected:.1f} GB at its peak, {record.available_memory_gb:.1f} GB are free",
            fix="--set train.advanced.micro_batch_size=1, a shorter train.max_seq_len, or method lora",
        )
    free = shutil.disk_usage(folder).free
    if record.disk_bytes > free:
        raise DoesNotFit(
            f"needs {show_bytes(record.disk_bytes)} of disk, {show_bytes(free)} are free",
            fix="--runs-dir on another disk, or --set train.advanced.keep_checkpoints=1",
        )
    again = f"foretune run {ResolvedRecord.read(folder).job_file}"
    budget = job.plan.max_cost_usd
    if budget and record.cost_usd.expected > budget:
        raise GateRefused(
            f"would cost about {show_usd(record.cost_usd.expected)}, the limit is {show_usd(budget)}",
            fix=f"{again} --max-cost {record.cost_usd.high:.2f}, or fewer epochs or samples",
        )
    limit = job.plan.max_hours * 3600
    if limit and record.total_seconds.expected > limit:
        raise GateRefused(
            f"would take about {show_seconds(record.total_seconds.expected)}, the limit is {show_seconds(limit)}",
            fix=f"{again} --max-hours {record.total_seconds.high / 3600:.2g}, or fewer epochs or samples",
        )


# --- training, a process of its own ---------------------------------------------------------------------------------


def train_stage(run: Run, *, detach: bool = False) -> Outcome:
    """Start or resume training as its own process, or join the one that runs; wait for its end unless `detach`.

    Ctrl-C once asks it for a checkpoint and waits, twice ends it. Raises what stopped it, by its own name.
    """
    run_dir = run.run_dir
    if TrainingRecord.exists(run_dir):
        return Outcome(run_dir, "done")
    _stage_event(run_dir, "train", "start")
    if not detach:
        run.watcher.stage_started("train", run_dir)
    pid, num_said = run_pid(run_dir) or started_pid(run_dir), 0
    if pid is None:
        num_said = len(read_events(run_dir))
        pid = _start(run_dir)
    if detach:
        return Outcome(run_dir, "running")
    began = time.monotonic()
    interrupted = _follow(run, pid, num_said)
    if not TrainingRecord.exists(run_dir):
        events = read_events(run_dir)
        last = next((e for e in reversed(events) if e["kind"] in ("train_start", "train_end", "failed")), None)
        if last is not None and last["kind"] == "train_end":
            return Outcome(run_dir, "stopped", interrupted)
        raise _explained(run_dir, exit_code=exit_code(pid))
    record, seconds = reconcile_run(run), time.monotonic() - began
    _stage_event(run_dir, "train", "end", seconds=round(seconds, 3))
    run.watcher.stage_ended("train", record, seconds)
    return Outcome(run_dir, "stopped" if record.stop_reason == "stopped" else "done", interrupted)


def _explained(run_dir: Path, *, exit_code: int | None = None) -> ForetuneError:
    """Why training failed, with the cause, the evidence and settings that fit written to `post_mortem.json`."""
    from foretune.train.post_mortem import post_mortem

    post_mortem(run_dir, exit_code=exit_code, is_final=True)
    return failure_of(run_dir)


def _start(run_dir: Path) -> int:
    resume = any(event["kind"] == "train_start" for event in read_events(run_dir))
    if not resume and PlanRecord.exists(run_dir):
        from foretune.plan.decision import check_decision

        check_decision(run_dir)
    pid = start_training(run_dir, resume=resume)
    with EventLog(run_dir) as log:
        log.add("process", pid=pid)
    return pid


def _follow(run: Run, pid: int, num_said: int) -> bool:
    """Pass events to the watcher until the process ends, with a diagnosis after each validation; whether Ctrl-C did.

    The first `num_said` are of earlier processes, whose notes were said then.
    """
    seen, interrupts, ended = 0, 0, False
    live = LiveDiagnosis(run.job, run.run_dir.name)
    while True:
        try:
            for number, event in _numbered(tail_events(run.run_dir)):
                if event is None and ended:
                    return interrupts > 0
                is_new, seen = event is None or number > seen, max(seen, number)
                if is_new:
                    if event is None or event["kind"] != "note" or number > num_said:
                        run.watcher.event(event)
                    _diagnose_live(run.run_dir, live, event)
                ended = not is_alive(pid)  # one more reading after its end, for its last words
        except KeyboardInterrupt:
            interrupts += 1
            if interrupts > 1:
                stop_process(pid, abort=True)
                raise
            run.watcher.note("checkpointing; press Ctrl-C again to abort")
            stop_process(pid)


def _diagnose_live(run_dir: Path, live: LiveDiagnosis, event: Mapping[str, Any] | None) -> None:
    """Once a validation is read and nothing newer waits, what the curve shows so far goes to the event log."""
    if event is not None:
        live.take(event)
    elif live.is_due:
        with EventLog(run_dir) as log:
            log.add("diagnosis", **live.diagnosis())


def _numbered(events: Iterator[dict[str, Any] | None]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Events with how many real ones have come, itself included."""
    count = 0
    for event in events:
        count += event is not None
        yield count, event


def watch_run(run_dir: Path, *, watcher: Watcher | None = None) -> Outcome:
    """Follow a run that others take through its stages until none does; stages and training events go to `watcher`."""
    watcher = watcher or Silent()
    ended, live = False, LiveDiagnosis(Run.open(run_dir).job, run_dir.name)
    for event in tail_events(run_dir):
        if event is None and ended:
            break
        if event is not None and event["kind"] == "stage" and event.get("state") == "start":
            if event.get("stage") != JOURNEY:
                watcher.stage_started(str(event.get("stage")), run_dir)
        else:
            watcher.event(event)
            if event is not None:
                live.take(event)
            elif live.is_due:  # nobody else diagnoses a run that was started alone
                watcher.event({"kind": "diagnosis", **live.diagnosis()})
        ended = not (run_pid(run_dir) or started_pid(run_dir) or journey_pid(run_dir))
    if TrainingRecord.exists(run_dir):
        if not TrainingRecord.read(run_dir).reconciliation:
            reconcile_run(Run.open(run_dir))
        return Outcome(run_dir, "done")
    if run_state(run_dir) in ("failed", "interrupted"):
        raise _explained(run_dir)
    return Outcome(run_dir, "stopped")
