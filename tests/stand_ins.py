"""Stand-ins for what is slow: records made by hand, and a training process that only writes what a real one would."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from foretune.backends import local
from foretune.plan.decision import decide
from foretune.records.audit import AuditRecord, Finding
from foretune.records.base import Record
from foretune.records.dataset import DatasetRecord, DatasetSource, SplitInfo
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SystemResult
from foretune.records.plan import Estimate, PlanRecord
from foretune.records.training import CurvePoint, TrainingRecord
from foretune.steps import Run

TRAINER = Path(__file__).parent / "stand_in_trainer.py"


def estimate(expected: float) -> Estimate:
    """A figure give or take a fifth."""
    return Estimate(low=expected * 0.8, expected=expected, high=expected * 1.2)


def dataset_record(**changes: Any) -> DatasetRecord:
    """60 chat samples."""
    splits = {
        name: SplitInfo(num_samples=n, sha256="0" * 64) for name, n in (("train", 48), ("validation", 6), ("test", 6))
    }
    source = DatasetSource(path="data.jsonl", sha256="0" * 64, format="chat", num_rows=60)
    return DatasetRecord(
        **{"version": "0123456789abcdef", "task": "chat", "sources": (source,), "splits": splits} | changes
    )


def audit_record(*findings: Finding) -> AuditRecord:
    """An audit with these findings."""
    return AuditRecord(dataset_version="0123456789abcdef", num_samples=60, findings=findings)


def plan_record(**changes: Any) -> PlanRecord:
    """A plan of 8 steps on this machine."""
    values: dict[str, Any] = {
        "base": "pebble",
        "method": "lora",
        "device": "test CPU",
        "total_parameters": 5_000_000,
        "trainable_parameters": 50_000,
        "num_train_samples": 48,
        "num_train_tokens": 2_000,
        "num_steps": 8,
        "micro_batch_size": 8,
        "grad_accum_steps": 2,
        "max_seq_len": 64,
        "fits": True,
        "available_memory_gb": 8.0,
        "peak_memory_gb": estimate(0.5),
        "memory_components": {"weights": 2e7, "activations": 1e8},
        "train_seconds": estimate(60.0),
        "total_seconds": estimate(90.0),
        "tokens_per_second": estimate(1000.0),
        "cost_usd": estimate(0.0),
        "price_per_hour_usd": 0.0,
        "disk_bytes": 1_000_000,
        "probed": True,
    }
    return PlanRecord(**values | changes)


def training_record(run_id: str = "job-001", **changes: Any) -> TrainingRecord:
    """Training that went well."""
    curve = tuple(CurvePoint(step=i, loss=3.0 / (i + 1)) for i in range(8))
    values: dict[str, Any] = {
        "run_id": run_id,
        "base": "pebble",
        "base_sha256": "0" * 64,
        "method": "lora",
        "dataset_version": "0123456789abcdef",
        "foretune_version": "0.1.0",
        "versions": {"python": "3.11"},
        "device": "test CPU",
        "precision": "fp32",
        "seed": 0,
        "total_parameters": 5_000_000,
        "trainable_parameters": 50_000,
        "num_steps": 8,
        "planned_steps": 8,
        "num_epochs": 2.67,
        "num_tokens": 5_000,
        "num_loss_tokens": 900,
        "seconds": 70.0,
        "train_seconds": 62.0,
        "tokens_per_second": 80.6,
        "peak_memory_bytes": 480_000_000,
        "cost_usd": 0.0,
        "stop_reason": "finished",
        "best_step": 8,
        "best_eval_loss": 0.41,
        "final_train_loss": 0.375,
        "train_curve": curve,
        "eval_curve": curve[::4],
        "artefact": "adapter",
        "artefact_sha256": {},
    }
    return TrainingRecord(**values | changes)


def evaluation_record(run_id: str = "job-001", **changes: Any) -> EvaluationRecord:
    """A verdict of `better` on 100 samples."""

    def system(name: str, value: float) -> SystemResult:
        metric = MetricValue(value=value, ci_low=value - 0.05, ci_high=value + 0.05, n=100, method="wilson")
        return SystemResult(name=name, prompt="plain", metrics={"exact_match": metric}, seconds=1.0)

    values: dict[str, Any] = {
        "run_id": run_id,
        "dataset_version": "0123456789abcdef",
        "split": "test",
        "look": 1,
        "primary_metric": "exact_match",
        "n": 100,
        "systems": (system("base_zero_shot", 0.1), system("base_few_shot", 0.3), system("fine_tuned", 0.8)),
        "baseline": "base_few_shot",
        "candidate": "fine_tuned",
        "delta": Delta(value=0.5, ci_low=0.4, ci_high=0.6, p_value=1e-9, method="mcnemar_mid_p"),
        "smallest_visible_difference": 0.1,
        "n_needed": None,
        "margin": 0.02,
        "verdict": "better",
        "reason": "the interval lies above 0",
    }
    return EvaluationRecord(**values | changes)


def diagnosis_record(run_id: str = "job-001", *causes: Cause) -> DiagnosisRecord:
    """A diagnosis with these causes."""
    return DiagnosisRecord(run_id=run_id, causes=causes, checked=("overfitting",))


OVERFITTING = Cause(
    mode="overfitting",
    statistic=1.5,
    evidence=("eval loss rose from 0.4 to 0.6",),
    explanation="The model learnt the samples by heart.",
    fixes=("fewer epochs",),
    patch={"train.epochs": 1.0},
)


def written(record: Record, run: Run) -> Record:
    """The record in the run's folder, with the advice that a plan comes with."""
    record.write(run.run_dir)
    if isinstance(record, PlanRecord):
        decide(record, run_dir=run.run_dir, folder=run.folder)
    return record


def use_stand_in_trainer(monkeypatch: pytest.MonkeyPatch, behaviour: str = "finish") -> None:
    """Start `stand_in_trainer.py` where training would start; `behaviour` is what it does."""

    def start(run_dir: Path, *, resume: bool = False) -> int:
        arguments = [str(TRAINER), str(run_dir), behaviour, "resume" if resume else "start"]
        return start_script(arguments, run_dir / local.TRAIN_LOG)

    monkeypatch.setattr("foretune.journey.start_training", start)


def start_script(arguments: list[str], log: Path) -> int:
    """Start a Python script detached, as `start_detached` does with a module."""
    import subprocess

    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    local._CHILDREN[process.pid] = process
    return process.pid
