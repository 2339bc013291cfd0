"""One run to be evaluated: its records, its splits, its two models, and the journal of what is done already."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

from foretune.config.job import JobConfig
from foretune.data.ledger import TestLedger
from foretune.data.mix import own_samples
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.engine.chat import ChatEngine
from foretune.errors import ConfigError, GateRefused, NotFound
from foretune.evaluate.journal import Journal
from foretune.evaluate.later import deciding_settings
from foretune.evaluate.metrics import choose_primary_metric
from foretune.evaluate.quantised import quantise_engine
from foretune.evaluate.systems import Progress
from foretune.models.base import resolve_base
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.run import ResolvedRecord
from foretune.records.training import TrainingRecord

__all__ = ["Case", "HeldOut", "Models", "open_case"]

Which = Literal["base", "fine_tuned", "fine_tuned_8bit", "fine_tuned_4bit"]
LOOK = "look"


class HeldOut(NamedTuple):
    """The opened test samples, and how many times this split has been opened."""

    look: int
    samples: list[Sample]

    @property
    def targets(self) -> list[str]:
        """What is expected of each sample."""
        return [sample.target for sample in self.samples]

    @property
    def groups(self) -> list[str] | None:
        """The declared group of each sample, its own where it has none; None where none is declared."""
        if not any(sample.group for sample in self.samples):
            return None
        return [sample.group or f"\0{place}" for place, sample in enumerate(self.samples)]


class Models:
    """The base and the fine-tuned model, whole or quantised, loaded when asked for, never two in memory."""

    def __init__(self, base: Path, artefact: Path, *, max_seq_len: int = 0) -> None:
        self.base_folder = base
        self._artefact = artefact
        self._max_seq_len = max_seq_len
        self._held: tuple[Which, ChatEngine] | None = None

    def chat(self, which: Which) -> ChatEngine:
        """The model, spoken to in messages. Raises NotFound, ConfigError where it cannot be loaded."""
        if self._held is None or self._held[0] != which:
            from foretune.engine.engine import load_engine

            if self._held is not None:
                self._held = None
                gc.collect()
            engine = load_engine(self.base_folder, None if which == "base" else self._artefact)
            if which in ("fine_tuned_8bit", "fine_tuned_4bit"):
                quantise_engine(engine, "8bit" if which == "fine_tuned_8bit" else "4bit")
            self._held = which, ChatEngine(engine, max_seq_len=self._max_seq_len)
        return self._held[1]


@dataclass
class Case:
    """Everything that the steps of an evaluation share; `warnings` grows as they go."""

    job: JobConfig
    run_dir: Path
    runs_dir: Path
    folder: Path
    training: TrainingRecord
    dataset: DatasetRecord
    primary: str
    train: list[Sample]
    models: Models
    journal: Journal
    on_progress: Progress | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        """Samples answered at once."""
        return self.job.evaluate.advanced.batch_size

    @cached_property
    def own_train(self) -> list[Sample]:
        """The training samples of the task itself: what prompts are made of, and metrics are chosen by."""
        return own_samples(self.train)

    @property
    def num_test_samples(self) -> int:
        """Size of the sealed test split, known without opening it."""
        split = self.dataset.splits.get("test")
        return split.num_samples if split else 0

    def validation(self) -> list[Sample]:
        """The validation samples that prompts are chosen on."""
        if "validation" not in self.dataset.splits:
            return []
        samples = _worth_giving(DatasetStore(self.runs_dir).load(self.dataset.version, "validation"))
        return _drawn(samples, self.job.evaluate.advanced.max_validation_samples, self.job.seed)

    def refuse_second_look(self, *, reuse_test: bool) -> None:
        """Raise GateRefused now, before any work, where the test split will not open."""
        ledger = TestLedger(self.runs_dir)
        is_open = LOOK in self.journal or not self.num_test_samples
        if is_open or reuse_test or all(look.refused for look in ledger.looks(self.dataset.version)):
            return
        try:
            self._look(reuse_test=False)
        except GateRefused as refusal:
            if not EvaluationRecord.exists(self.run_dir):
                raise
            name = self.run_dir.name
            fix = f"foretune runs show {name}   # its verdict; --set shows more beside it; or {refusal.fix}"
            raise GateRefused(refusal.what, fix=fix) from None

    def open_test(self, *, reuse_test: bool) -> HeldOut:
        """Write the look into the ledger, then read the test samples; an evaluation that goes on keeps its look.

        Raises GateRefused on a second look unless `reuse_test`.
        """
        if not self.num_test_samples:
            return HeldOut(1, [])
        look = int(self.journal.once(LOOK, lambda: self._look(reuse_test=reuse_test)))
        samples = _worth_giving(DatasetStore(self.runs_dir).load(self.dataset.version, "test"))
        return HeldOut(look, _drawn(samples, self.job.evaluate.advanced.max_test_samples, self.job.seed))

    def _look(self, *, reuse_test: bool) -> int:
        ledger = TestLedger(self.runs_dir)
        return ledger.open_test(self.dataset.version, self.run_dir.name, "evaluate", reuse=reuse_test)


def open_case(job: JobConfig, *, run_dir: Path, runs_dir: Path, folder: Path, on_progress: Progress | None) -> Case:
    """Read the records of a trained run. Raises NotFound, DataError, ConfigError where they do not fit together."""
    if not TrainingRecord.exists(run_dir):
        raise NotFound(f"run {run_dir.name} is not trained yet", fix=f"foretune runs resume {run_dir.name}")
    training, dataset = TrainingRecord.read(run_dir), DatasetRecord.read(run_dir)
    if training.dataset_version != dataset.version:
        raise ConfigError(
            f"run {run_dir.name} was trained on dataset {training.dataset_version}, its data is now {dataset.version}",
            fix="start a new run: foretune run job.toml",
        )
    train = _worth_giving(DatasetStore(runs_dir).load(dataset.version, "train"))
    primary, warnings = _primary_metric(job, run_dir, own_samples(train), dataset.task)
    models = Models(
        resolve_base(job.base, folder=folder), run_dir / training.artefact, max_seq_len=job.train.max_seq_len
    )
    journal = Journal(run_dir, _key(job, training, primary))
    return Case(
        job, run_dir, runs_dir, folder, training, dataset, primary, train, models, journal, on_progress, warnings
    )


def _primary_metric(job: JobConfig, run_dir: Path, train: Sequence[Sample], task: str) -> tuple[str, list[str]]:
    """The metric fixed before training, and what to say where the job now names another."""
    fixed = ResolvedRecord.read(run_dir).primary_metric if ResolvedRecord.exists(run_dir) else ""
    wanted = job.evaluate.primary_metric
    if not fixed:
        return choose_primary_metric(job, train, task), []
    if wanted in ("", fixed):
        return fixed, []
    return fixed, [f"{fixed} was fixed as primary metric before training and decides; {wanted} is only shown"]


def _key(job: JobConfig, training: TrainingRecord, primary: str) -> str:
    """What the steps of an evaluation depend on; what is only shown beside the verdict may change between them."""
    parts = [
        job.base,
        job.seed,
        deciding_settings(job, primary),
        training.base_sha256,
        training.dataset_version,
        training.artefact_sha256,
        primary,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _worth_giving(samples: list[Sample]) -> list[Sample]:
    """Without answers that are judged poor (KTO): nobody is to be measured by them, or shown them."""
    return [sample for sample in samples if sample.desirable is not False]


def _drawn(samples: list[Sample], most: int, seed: int) -> list[Sample]:
    """At most `most` samples (0 = all), drawn with the seed, in their order."""
    if not most or len(samples) <= most:
        return samples
    return [samples[place] for place in sorted(Random(f"evaluate/{seed}").sample(range(len(samples)), most))]
