"""Each verb wired to a run folder: which records it reads, what it is handed, what it leaves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from foretune import __version__
from foretune.config.job import PREFERENCE_METHODS, JobConfig
from foretune.config.read import ResolvedJob
from foretune.config.write import job_toml
from foretune.data.token_shards import are_tokens_ready
from foretune.errors import ForetuneError, NotFound
from foretune.records.audit import AuditRecord
from foretune.records.base import Record, write_atomically
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.events import read_events
from foretune.records.evidence import EvidenceRecord
from foretune.records.failures import FailuresRecord
from foretune.records.plan import PlanRecord
from foretune.records.probe import ProbeRecord
from foretune.records.procedure import ProcedureRecord
from foretune.records.run import JOB_FILE, ResolvedRecord, create_run
from foretune.records.training import TrainingRecord

if TYPE_CHECKING:
    import numpy as np

    from foretune.audit.audit import Check
    from foretune.data.samples import Sample
    from foretune.data.tokenizer import Tokenizer
    from foretune.plan.auto import AutoJob, Draft
    from foretune.plan.lengths import Lengths

__all__ = [
    "Run",
    "Silent",
    "Watcher",
    "audit_run",
    "auto_run",
    "borrow_run",
    "collect_run",
    "create_job_run",
    "decide_run",
    "diagnose_run",
    "evaluate_run",
    "is_base_measured",
    "lengths_of",
    "measure_base_run",
    "observe_run",
    "plan_run",
    "reconcile_run",
    "set_shown",
]

PACKED_ROW_TOKENS = 1024  # longest row of packed text where neither job nor model says


class Watcher(Protocol):
    """Whoever watches a run; every method returns at once."""

    def stage_started(self, stage: str, run_dir: Path) -> None:
        """A stage begins."""

    def stage_ended(self, stage: str, record: Record, seconds: float) -> None:
        """A stage left its record."""

    def event(self, event: Mapping[str, Any] | None) -> None:
        """An event of training, or None when there is nothing new."""

    def progress(self, what: str, done: int, total: int) -> None:
        """How far a stage is that counts what it does."""

    def note(self, message: str) -> None:
        """Something the user should hear."""


class Silent:
    """Watches nothing."""

    def stage_started(self, stage: str, run_dir: Path) -> None:
        """Nothing."""

    def stage_ended(self, stage: str, record: Record, seconds: float) -> None:
        """Nothing."""

    def event(self, event: Mapping[str, Any] | None) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Run:
    """One run under way: its settings, its folders and its watcher; `sources_dir` keeps what is fetched for it."""

    job: JobConfig
    run_dir: Path
    runs_dir: Path
    folder: Path
    watcher: Watcher = field(default_factory=Silent)
    sources_dir: Path | None = None  # None: below `runs_dir`
    skip_advice: str | None = None  # why nobody wants to hear whether to train at all

    @classmethod
    def open(cls, run_dir: Path, *, watcher: Watcher | None = None, skip_advice: str | None = None) -> Run:
        """The run in a folder with `resolved.json`. Raises NotFound, ConfigError."""
        resolved = ResolvedRecord.read(run_dir)
        job = JobConfig.model_validate(resolved.job)
        return cls(job, run_dir, run_dir.parent, Path(resolved.folder), watcher or Silent(), skip_advice=skip_advice)

    def split(self, name: str) -> list[Sample]:
        """The samples of one split of the collected data; [] where there is no such split."""
        from foretune.data.store import DatasetStore

        dataset = DatasetRecord.read(self.run_dir)
        return DatasetStore(self.runs_dir).load(dataset.version, name) if name in dataset.splits else []

    def base(self) -> tuple[dict[str, Any], Tokenizer]:
        """The base model's `config.json` and its tokenizer. Raises NotFound, DataError."""
        from foretune.data.tokenizer import Tokenizer
        from foretune.models.base import base_config, resolve_base

        folder = resolve_base(self.job.base, self.folder)
        return base_config(folder), Tokenizer.from_folder(folder)

    def usual_system(self) -> str:
        """The system message that the run was trained with: the job's, or the first sample's."""
        if self.job.data.system or are_tokens_ready(self.job.data.path, self.folder):
            return self.job.data.system
        first = next(iter(self.split("train")), None)
        messages = first.messages if first is not None else ()
        return messages[0].content if messages and messages[0].role == "system" else ""


def create_job_run(resolved: ResolvedJob, *, runs_dir: Path, source: Path | None = None) -> Path:
    """A run folder with `job.toml` and `resolved.json`; `source` is the job file as the user wrote it.

    Its parent is the run that the job names, else the one whose adapter it trains on.
    """
    base_adapter = resolved.job.train.advanced.base_adapter
    further = Path(base_adapter).name if ResolvedRecord.exists(runs_dir / base_adapter) else ""
    run_dir = create_run(runs_dir, resolved.job.name)
    record = ResolvedRecord(
        run_id=run_dir.name,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        foretune_version=__version__,
        job=resolved.job.model_dump(mode="json"),
        origins=dict(resolved.origins),
        folder=str(resolved.folder.resolve()),
        primary_metric=resolved.job.evaluate.primary_metric,
        parent=resolved.job.parent or further,
        source=str(source) if source is not None and source.is_file() else "",
    )
    record.write(run_dir)
    if source is not None and source.is_file():
        shutil.copyfile(source, run_dir / JOB_FILE)
    else:
        write_atomically(run_dir / JOB_FILE, job_toml(resolved.job))
    return run_dir


def collect_run(run: Run) -> DatasetRecord:
    """Read and split the data, then write into `resolved.json` what follows from it: the metric that decides."""
    from foretune.collect.collect import collect
    from foretune.data.mix import own_samples
    from foretune.evaluate.preflight import check_evaluation, check_scorers

    check_evaluation(run.job, run.folder)
    record = collect(
        run.job, folder=run.folder, runs_dir=run.runs_dir, run_dir=run.run_dir, sources_dir=run.sources_dir
    )
    metric = _fix_metric(run)
    check_scorers(run.job, metric, own_samples(run.split("train")), _held_out(run), run.folder, record.task)
    return record


def _fix_metric(run: Run) -> str:
    """Fix the primary metric before anything is trained: the job's, or the one that fits the targets."""
    from foretune.data.mix import own_samples
    from foretune.evaluate.metrics import choose_primary_metric

    metric = choose_primary_metric(run.job, own_samples(run.split("train")))
    why = "set in the job" if run.job.evaluate.primary_metric else "by what the targets look like"
    resolved = ResolvedRecord.read(run.run_dir)
    derived = {**resolved.derived, "primary_metric": f"{metric} ({why})"}
    resolved.model_copy(update={"primary_metric": metric, "derived": derived}).write(run.run_dir)
    return metric


def audit_run(run: Run) -> AuditRecord:
    """Audit the collected splits with the base model's tokenizer."""
    from foretune.audit.audit import audit

    dataset = DatasetRecord.read(run.run_dir)
    _, tokenizer = run.base()
    splits = {name: run.split(name) for name in dataset.splits}
    limit = run.job.train.max_seq_len or tokenizer.max_len or 0
    more = _declared_checks(run)
    return audit(dataset, splits, tokenizer, max_seq_len=limit, more=more, run_dir=run.run_dir)


def _declared_checks(run: Run) -> list[Check]:
    """The checks that the job asks for beside the usual ones. Raises NotFound, DataError, ConfigError."""
    from foretune.audit.declared import declared_checks

    data, production = run.job.data, []
    if data.production_path:
        from foretune.collect.production import read_production

        production = read_production(run.folder / data.production_path)
    return declared_checks(data, run.folder, production=production, run_dir=run.run_dir)


def borrow_run(run: Run) -> None:
    """Take over what an earlier run on the same data measured of the base, and tell the watcher."""
    from foretune.plan.measurements import borrow

    earlier = borrow(run.run_dir, run.runs_dir, run.job)
    if earlier is not None:
        run.watcher.note(f"measurements of run {earlier.name} on the same data hold here too")


def is_base_measured(run: Run, *, ask_again: bool) -> bool:
    """Whether the prompted baseline is measured, and with `ask_again` the kinds of its failures."""
    if not FailuresRecord.exists(run.run_dir):
        return False
    record = FailuresRecord.read(run.run_dir)
    return not ask_again or record.behaviour is not None or record.num_failures == 0


def measure_base_run(run: Run, *, ask_again: bool) -> FailuresRecord:
    """Gates 1 and 2: the prompted base on validation samples, and with `ask_again` the kinds of its failures."""
    from foretune.evaluate.failure_kinds import measure_failures

    return measure_failures(
        run.job,
        run_dir=run.run_dir,
        runs_dir=run.runs_dir,
        folder=run.folder,
        ask_again=ask_again,
        on_progress=run.watcher.progress,
    )


def decide_run(run: Run, *, project: Path | None = None) -> ProcedureRecord:
    """Should we fine-tune: the gates over what is measured in the run and what the project file says, recorded.

    `project`: the project file; None = `project.toml` beside the job, where there is one.
    """
    from foretune.plan.decision import PROJECT_FILE
    from foretune.plan.measurements import measured_in
    from foretune.plan.procedure import procedure
    from foretune.plan.project import Project, read_project

    file = project or run.folder / PROJECT_FILE
    told = read_project(file) if project is not None or file.is_file() else Project()
    dataset, resolved = DatasetRecord.read(run.run_dir), ResolvedRecord.read(run.run_dir)
    record = procedure(
        measured_in(run.run_dir, told),
        run_id=run.run_dir.name,
        base=run.job.base,
        dataset_version=dataset.version,
        metric=resolved.primary_metric,
        job=resolved.job_file,
    )
    record.write(run.run_dir)
    return record


def plan_run(run: Run, *, probe: bool) -> PlanRecord:
    """Predict, and record what is advised; `probe` measures a few real steps first, in a process of its own."""
    from foretune.plan.again import same_again
    from foretune.plan.decision import decide, decision_note
    from foretune.plan.plan import plan

    def planned(measured: ProbeRecord | None, run_dir: Path | None) -> PlanRecord:
        return plan(run.job, base_config=config, lengths=lengths, probe=measured, run_dir=run_dir)

    config, tokenizer = run.base()
    splits = {name: run.split(name) for name in ("train", "validation", "test")}
    lengths = lengths_of(run.job, splits, tokenizer, is_seq2seq=bool(config.get("is_encoder_decoder")))
    measured = _probed(run, planned(None, None)) if probe else None
    record = planned(measured, run.run_dir)
    decision = decide(record, run_dir=run.run_dir, folder=run.folder, skipped_because=run.skip_advice)
    run.watcher.note(decision_note(decision))
    again = same_again(run.run_dir)
    if again:
        run.watcher.note(again)
    return record


def auto_run(run: Run, draft: Draft) -> AutoJob:
    """Collect the rows of a draft job, and choose what follows from their number, the base and this machine."""
    from foretune.audit.checks.sizes import num_rows
    from foretune.audit.subject import Subject
    from foretune.plan.auto import auto_job, rough_lengths

    dataset = collect_run(run)
    splits = {name: run.split(name) for name in dataset.splits}
    if draft.base.folder is None:
        lengths = rough_lengths(run.job, splits)
    else:
        config, tokenizer = run.base()
        lengths = lengths_of(run.job, splits, tokenizer, is_seq2seq=bool(config.get("is_encoder_decoder")))
    metric = ResolvedRecord.read(run.run_dir).primary_metric
    too_few = num_rows(Subject(splits, task=dataset.task, tokenizer=None, max_seq_len=0))
    warnings = [*dataset.warnings, *(f"{finding.title}; better: {finding.fix}" for finding in too_few)]
    return auto_job(draft, lengths, metric=metric, warnings=warnings)


def _probed(run: Run, calculated: PlanRecord) -> ProbeRecord | None:
    """A few real steps of the run, measured; None where by its shape alone it does not fit into memory."""
    if ProbeRecord.exists(run.run_dir):
        return ProbeRecord.read(run.run_dir)
    if not calculated.fits:
        run.watcher.note("no step is measured: by its shape alone the run needs more memory than is free")
        return None
    from foretune.backends.probing import probe_apart

    return probe_apart(run.run_dir, recompute=calculated.recomputes_activations)


def lengths_of(
    job: JobConfig, splits: Mapping[str, list[Sample]], tokenizer: Tokenizer, *, is_seq2seq: bool
) -> Lengths:
    """Tokens of every sample as training and evaluation will see them, and of what carries loss or is generated."""
    from foretune.plan.lengths import Lengths

    limit = job.train.max_seq_len or tokenizer.max_len or 0
    counts = {name: _counts(job, samples, tokenizer, limit, is_seq2seq) for name, samples in splits.items()}
    train, validation, test = (counts.get(name, _Counts([], [])) for name in ("train", "validation", "test"))
    classes = {sample.target for sample in splits.get("train", ())} if job.train.method == "classify" else set()
    return Lengths(
        train=train.tokens,
        validation=validation.tokens,
        test=test.tokens,
        train_answers=train.answers,
        test_answers=test.answers,
        max_seq_len=limit,
        num_labels=len(classes),
        train_ids=train.ids,
        validation_ids=validation.ids,
        train_others=train.others,
        validation_others=validation.others,
    )


class _Counts(NamedTuple):
    """Tokens of each sample and of its answer; the ids where samples may share prefixes, `others` of pairs."""

    tokens: list[int]
    answers: list[int]
    ids: Sequence[np.ndarray] = ()
    others: Sequence[np.ndarray] = ()


def _counts(job: JobConfig, samples: list[Sample], tokenizer: Tokenizer, limit: int, is_seq2seq: bool) -> _Counts:
    """Tokens of each sample and of its answer, by method."""
    import numpy as np

    from foretune.data.preference import preference_lengths
    from foretune.data.tokenise import prompt_ids, tokenise_all

    if job.train.method in PREFERENCE_METHODS:
        return _Counts(*preference_lengths(job.train.method, samples, tokenizer, max_seq_len=limit))
    if job.train.method in ("classify", "regress"):
        if tokenizer.has_chat_template:
            inputs = [prompt_ids(sample, tokenizer) for sample in samples]
        else:
            inputs = tokenizer.encode_batch([s.input_text for s in samples], add_special=True)
        ids = [np.asarray(one[-limit:], dtype=np.int32) for one in inputs]
        return _Counts([len(one) for one in ids], [0] * len(samples), ids)
    if job.train.method == "pretrain":
        row = min(job.train.max_seq_len or PACKED_ROW_TOKENS, tokenizer.max_len or PACKED_ROW_TOKENS)
        return _packed_counts(samples, tokenizer, row)
    if is_seq2seq:
        sources = tokenizer.encode_batch(["\n".join(m.content for m in sample.prompt) for sample in samples])
        targets = [len(ids) + 1 for ids in tokenizer.encode_batch([sample.target for sample in samples])]
        return _Counts([len(ids) + 1 + size for ids, size in zip(sources, targets, strict=True)], targets)
    data = tokenise_all(samples, tokenizer, max_seq_len=limit, train_on=job.train.advanced.train_on)
    ids = [np.asarray(sample.ids, dtype=np.int32) for sample in data.samples]
    return _Counts([len(one) for one in ids], [sample.num_loss_tokens for sample in data.samples], ids)


def _packed_counts(samples: list[Sample], tokenizer: Tokenizer, row: int) -> _Counts:
    """Rows of raw text end to end: full ones and the rest."""
    texts = [sample.text or "\n".join(message.content for message in sample.messages) for sample in samples]
    total = sum(len(ids) + 1 for ids in tokenizer.encode_batch(texts))
    rows = [row] * (total // row) + ([total % row] if total % row > 1 else [])
    return _Counts(rows, [size - 1 for size in rows])


def reconcile_run(run: Run, *, evaluate_seconds: float | None = None) -> TrainingRecord:
    """Hold the plan against what training took, write that into `training.json` and into the machine's ledger.

    With `evaluate_seconds` the whole time and the cost are reconciled too.
    """
    from foretune.plan import append_ledger, ledger_entries, reconcile

    training = TrainingRecord.read(run.run_dir)
    if not PlanRecord.exists(run.run_dir):
        return training
    plan_record = PlanRecord.read(run.run_dir)
    found = reconcile(
        plan_record,
        train_seconds=training.train_seconds,
        peak_memory_bytes=training.peak_memory_bytes,
        total_seconds=None if evaluate_seconds is None else _wall_seconds(run, training) + evaluate_seconds,
        num_steps=training.num_steps,
    )
    known = {item.quantity for item in training.reconciliation}
    append_ledger(
        run.runs_dir,
        ledger_entries(run.run_dir.name, plan_record, [item for item in found if item.quantity not in known]),
    )
    updated = training.model_copy(update={"reconciliation": found})
    updated.write(run.run_dir)
    return updated


def _wall_seconds(run: Run, training: TrainingRecord) -> float:
    """Seconds of the train stage with the start of its process, where someone waited for it; else what it counted."""
    ends = [event for event in read_events(run.run_dir) if event["kind"] == "stage" and event.get("state") == "end"]
    waited = sum(float(event["seconds"]) for event in ends if event.get("stage") == "train")
    return max(waited, training.seconds)


def evaluate_run(run: Run, *, reuse_test: bool) -> EvaluationRecord:
    """Open the sealed test split and compare the systems."""
    from foretune.evaluate.evaluate import evaluate

    if not DatasetRecord.exists(run.run_dir) and TrainingRecord.exists(run.run_dir):
        raise NotFound(
            f"{run.run_dir.name} was trained on tokens alone: there are no samples to evaluate it on",
            fix=f"foretune chat {run.run_dir.name}",
        )
    return evaluate(
        run.job,
        run_dir=run.run_dir,
        runs_dir=run.runs_dir,
        folder=run.folder,
        reuse_test=reuse_test,
        on_progress=run.watcher.progress,
    )


def _held_out(run: Run) -> list[Sample]:
    return [*run.split("validation"), *run.split("test")]


def set_shown(run: Run, settings: Mapping[str, Any]) -> Run:
    """The trained run with settings of what is shown beside its verdict, checked and written into `resolved.json`.

    Raises ConfigError for a setting that decides, and what the first check before training would.
    """
    from foretune.data.mix import own_samples
    from foretune.evaluate.later import with_shown
    from foretune.evaluate.preflight import check_evaluation, check_scorers

    resolved = ResolvedRecord.read(run.run_dir)
    job = with_shown(run.job, settings, resolved.primary_metric)
    check_evaluation(job, run.folder)
    train = own_samples(run.split("train"))
    task = DatasetRecord.read(run.run_dir).task
    check_scorers(job, resolved.primary_metric, train, _held_out(run), run.folder, task)
    origins = {**resolved.origins, **dict.fromkeys(settings, "after training")}
    resolved.model_copy(update={"job": job.model_dump(mode="json"), "origins": origins}).write(run.run_dir)
    return replace(run, job=job)


def observe_run(run: Run, *, quick: bool = False) -> EvidenceRecord | None:
    """Probe a trained run into `evidence.json`; None, with a note, where that cannot be done.

    `quick` looks at 100 samples of a split instead of 300.
    """
    if not (TrainingRecord.exists(run.run_dir) and DatasetRecord.exists(run.run_dir)):
        return None
    from foretune.collect.production import read_production
    from foretune.evaluate.observe import observe

    try:
        return observe(
            run.job,
            run_dir=run.run_dir,
            runs_dir=run.runs_dir,
            on_progress=run.watcher.progress,
            quick=quick,
            read_queries=read_production,
        )
    except ForetuneError as error:
        run.watcher.note(f"the model was not probed: {error}")
        return None


def _is_observed(run_dir: Path) -> bool:
    """Whether the run was probed after its artefact and its evaluation were written."""
    evidence = run_dir / EvidenceRecord.file_name
    if not evidence.is_file():
        return False
    training = TrainingRecord.read(run_dir)
    sources = [run_dir / EvaluationRecord.file_name, *(run_dir / training.artefact).glob("*")]
    newest = max((path.stat().st_mtime for path in sources if path.is_file()), default=0.0)
    return evidence.stat().st_mtime >= newest


def diagnose_run(run: Run, *, probe: bool = True, quick: bool = False, reword: str = "") -> DiagnosisRecord:
    """Look for failure modes in the records; with `probe` the run is probed first where it was not since it ended.

    `reword`: ask it its samples in other words too, by `rules` or by the model `URL#MODEL`; "" = not.
    """
    from foretune.diagnose.diagnose import diagnose

    if probe and TrainingRecord.exists(run.run_dir) and not _is_observed(run.run_dir):
        observe_run(run, quick=quick)
    if reword:
        from foretune.evaluate.reworded import measure_reworded

        folders = {"run_dir": run.run_dir, "runs_dir": run.runs_dir, "folder": run.folder}
        measure_reworded(run.job, **folders, by=reword, quick=quick, on_progress=run.watcher.progress)
    return diagnose(run.job, run_dir=run.run_dir)
