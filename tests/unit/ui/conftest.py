"""A realistic run folder, written through the records: 120 support tickets turned into JSON."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.diagnose import diagnose
from foretune.records.audit import AuditRecord, Finding, TokenStats
from foretune.records.dataset import DatasetRecord, DatasetSource, SplitInfo
from foretune.records.evaluation import Answer, Delta, EvaluationRecord, MetricValue, SkillScore, SystemResult
from foretune.records.plan import Estimate, PlanRecord, Reconciliation
from foretune.records.run import ResolvedRecord
from foretune.records.training import CurvePoint, TrainingRecord
from stand_ins import dataset_record, evaluation_record, plan_record, training_record

RUN_ID = "tickets-007"
VERSION = "c41f09e2b8a7d35e6f70118c9ab4d2e3"
NUM_STEPS = 120
JOB = """# Tickets to JSON
name = "tickets"
base = "pebble"

[data]
path = "tickets.jsonl"

[train]
epochs = 3
learning_rate = 1e-3   # small model

[evaluate]
primary_metric = "exact_match"
"""


def digest(text: str) -> str:
    """A hash-like text of 64 characters."""
    return "".join(random.Random(text).choices("0123456789abcdef", k=64))


def plan() -> PlanRecord:
    """58-71 s, 0.9-1.2 GB."""
    return plan_record(
        device="cpu",
        total_parameters=5_284_352,
        trainable_parameters=147_456,
        num_train_samples=640,
        num_train_tokens=88_200,
        num_steps=NUM_STEPS,
        micro_batch_size=16,
        grad_accum_steps=1,
        max_seq_len=256,
        available_memory_gb=7.4,
        peak_memory_gb=Estimate(low=0.92, expected=1.05, high=1.21),
        memory_components={"weights": 21_137_408, "activations": 310_000_000, "runtime": 600_000_000},
        train_seconds=Estimate(low=58, expected=64, high=71),
        total_seconds=Estimate(low=80, expected=90, high=103),
        tokens_per_second=Estimate(low=3700, expected=4100, high=4500),
        cost_usd=Estimate(low=0.0032, expected=0.0036, high=0.0039),
        price_per_hour_usd=0.2,
        disk_bytes=9_000_000,
        assumptions=("measured on this machine by 5 real steps",),
    )


def training(overfits: bool = True) -> TrainingRecord:
    """Curves that fall, with a validation loss that turns at step 75."""
    rng = random.Random(7)
    train = tuple(
        CurvePoint(
            step=step,
            loss=round(0.06 + 2.3 * math.exp(-step / 19) + abs(rng.gauss(0, 0.05)) + 0.04 * rng.random(), 4),
            learning_rate=1e-3 * min(1, step / 7) * 0.5 * (1 + math.cos(math.pi * step / NUM_STEPS)),
            grad_norm=abs(rng.gauss(0.8, 0.2)),
        )
        for step in range(1, 106)
    )
    rise = 0.0055 if overfits else 0.0
    validation = tuple(
        CurvePoint(step=step, loss=round(0.2 + 2.2 * math.exp(-step / 19) + rise * max(0, step - 75), 4))
        for step in range(15, 106, 15)
    )
    best = min(validation, key=lambda point: point.loss)
    seconds, memory = 66.2, 1_260_000_000
    return training_record(
        RUN_ID,
        base_sha256=digest("base"),
        dataset_version=VERSION,
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        device="cpu, 2 threads",
        total_parameters=5_284_352,
        trainable_parameters=147_456,
        num_steps=105,
        planned_steps=NUM_STEPS,
        num_epochs=2.625,
        num_tokens=231_840,
        num_loss_tokens=71_220,
        seconds=79.0,
        train_seconds=seconds,
        tokens_per_second=3502.0,
        peak_memory_bytes=memory,
        cost_usd=0.0037,
        stop_reason="early_stopping",
        best_step=best.step,
        best_eval_loss=best.loss,
        final_train_loss=train[-1].loss,
        train_curve=train,
        eval_curve=validation,
        artefact_sha256={"adapter/adapter_model.safetensors": digest("adapter")},
        reconciliation=(
            Reconciliation(
                quantity="train_seconds", predicted=Estimate(low=58, expected=64, high=71), actual=seconds, held=True
            ),
            Reconciliation(
                quantity="peak_memory_gb",
                predicted=Estimate(low=0.92, expected=1.05, high=1.21),
                actual=memory / 1e9,
                held=False,
            ),
            Reconciliation(
                quantity="cost_usd",
                predicted=Estimate(low=0.0032, expected=0.0036, high=0.0039),
                actual=0.0037,
                held=True,
            ),
        ),
        warnings=("2 samples were longer than 256 tokens and were left out",),
    )


PRODUCTS = ("Kettle Pro", "Lumen Lamp", "Trail Boots", "Nimbus Router", "Aria Headphones")
ISSUES = {
    "refund": "I want my money back",
    "broken": "it stopped working after two days",
    "late": "it has still not arrived",
    "question": "could you tell me how long the warranty runs",
}


def ticket(rng: random.Random) -> tuple[str, str]:
    """A ticket and the JSON expected of it."""
    product, (issue, words), order = rng.choice(PRODUCTS), rng.choice(list(ISSUES.items())), rng.randint(10_000, 99_999)
    greeting = rng.choice(("Hi there,", "hello!!", "Good morning,", "hey, quick one:"))
    ending = rng.choice(("Thanks", "Please help", "pls reply asap"))
    text = f"{greeting} I ordered the {product} (order #{order}) and {words}. {ending}."
    return text, json.dumps({"product": product, "order": order, "issue": issue})


def wrong(expected: str, rng: random.Random) -> str:
    """A plausible wrong answer."""
    row = json.loads(expected)
    match rng.randint(0, 3):
        case 0:
            row["issue"] = rng.choice([issue for issue in ISSUES if issue != row["issue"]])
        case 1:
            row["order"] = row["order"] // 10
        case 2:
            return f"The customer has a problem with the {row['product']} and asks for help with order {row['order']}."
        case _:
            del row["order"]
    return json.dumps(row)


def answers(rights: dict[str, int], seed: int = 3) -> list[Answer]:
    """120 samples answered by the systems, `rights` of them right."""
    rng = random.Random(seed)
    found = []
    for number in range(120):
        text, expected = ticket(rng)
        order = random.Random(number).random()
        for system, right in rights.items():
            is_right = (order * 120 + (7 if system == "fine_tuned" else 0) * (number % 17 == 3) * 20) < right
            shots = [{"role": "user", "content": "an example"}, {"role": "assistant", "content": "{}"}] * 5
            found.append(
                Answer(
                    sample_id=f"t{number:04d}",
                    system=system,
                    place=f"tickets.jsonl:{number * 6 + 2}",
                    messages=(
                        {"role": "system", "content": "Turn the ticket into JSON."},
                        *(shots if system == "base_few_shot" else []),
                        {"role": "user", "content": text},
                    ),
                    prediction=expected if is_right else wrong(expected, rng),
                    expected=expected,
                    scores={"exact_match": float(is_right), "token_f1": 1.0 if is_right else round(rng.random(), 3)},
                )
            )
    return found


def system(name: str, value: float, shots: int = 0, half: float = 0.07) -> SystemResult:
    """A system with four metrics, asked in its own way."""
    how = {"fine_tuned": "the data's own messages, as in training", "base_zero_shot": "The task's own words."}

    def metric(mean: float) -> MetricValue:
        low, high = max(0.0, mean - half), min(1.0, mean + half)
        return MetricValue(value=mean, ci_low=low, ci_high=high, n=120, method="wilson")

    return SystemResult(
        name=name,
        prompt=how.get(name, "The 5 most similar training samples as examples."),
        num_shots=shots,
        metrics={
            "exact_match": metric(value),
            "json_valid": metric(min(1.0, 0.3 + value)),
            "schema_valid": metric(min(1.0, 0.2 + value)),
            "token_f1": metric(0.4 + 0.6 * value),
        },
        seconds=21.0,
        generated_tokens=4100,
    )


def evaluation(**changes: Any) -> EvaluationRecord:
    """31 % with the best prompt, 84 % fine-tuned, one skill lost."""
    values: dict[str, Any] = {
        "dataset_version": VERSION,
        "n": 120,
        "systems": (
            system("base_zero_shot", 0.04, half=0.03),
            system("base_few_shot", 0.31, shots=5),
            system("fine_tuned", 0.84, half=0.065),
        ),
        "delta": Delta(
            value=0.53, ci_low=0.42, ci_high=0.63, p_value=3e-16, method="McNemar mid-p, Bonett-Price interval"
        ),
        "smallest_visible_difference": 0.12,
        "reason": "The whole interval lies above the margin of 2 points, on samples that training never saw.",
        "prompt_choices": (
            prompt("plain", "The task's own words.", 0, 0.03, "base_zero_shot"),
            prompt("instruction-1", "You answer with one JSON object with the keys product, order and issue.", 0, 0.02),
            prompt("nearest-5", "The 5 most similar training samples as examples.", 5, 0.328, "base_few_shot"),
            prompt("random-8", "8 training samples drawn at random as examples.", 8, 0.297),
        ),
        "general_skills": (
            skill("arithmetic", 0.78, 0.75),
            skill("copying", 0.97, 0.95),
            skill("look-up in a table", 0.70, 0.725),
            skill("stories", 0.62, 0.60),
            skill("Spanish", 0.55, 0.20),
        ),
        "exact_match_rate": 0.84,
        "human_eval_queue": 20,
        "warnings": ("3 answers reached max_new_tokens and were cut off",),
    }
    return evaluation_record(RUN_ID, **values | changes)


def prompt(name: str, description: str, shots: int, score: float, chosen_as: str = "") -> dict[str, Any]:
    """A prompt tried on 64 validation samples."""
    return {
        "name": name,
        "prompt": description,
        "num_shots": shots,
        "metric": "exact_match",
        "score": score,
        "ci_low": max(0.0, score - 0.1),
        "ci_high": score + 0.1,
        "n": 64,
        "chosen_as": chosen_as,
    }


def skill(name: str, before: float, after: float) -> SkillScore:
    """A skill on 40 samples, +- 14 points."""
    change = after - before
    low, high = round(change - 0.14, 3), round(change + 0.14, 3)
    return SkillScore(skill=name, metric="exact_match", before=before, after=after, n=40, ci_low=low, ci_high=high)


def dataset() -> DatasetRecord:
    """800 tickets, split 80/10/10 (the test split has a floor of 120)."""
    sizes = {"train": 600, "validation": 80, "test": 120}
    return dataset_record(
        version=VERSION,
        sources=(
            DatasetSource(
                path="tickets.jsonl", sha256=digest("source"), format="chat", num_rows=806, licence="CC-BY-4.0"
            ),
        ),
        splits={name: SplitInfo(num_samples=size, sha256=digest(name)) for name, size in sizes.items()},
        num_clusters=14,
        warnings=("6 rows are exact duplicates and were left out",),
    )


def audit() -> AuditRecord:
    """Two findings and token lengths."""
    rng = random.Random(5)
    bins = [0] * 20
    for _ in range(600):
        bins[min(19, max(2, int(rng.gauss(9, 2.6))))] += 1
    return AuditRecord(
        dataset_version=VERSION,
        num_samples=800,
        findings=(
            Finding(
                id="DATA012",
                severity="warning",
                title="Near-duplicate samples",
                count=31,
                places=("tickets.jsonl:14", "tickets.jsonl:202", "tickets.jsonl:377", "tickets.jsonl:401"),
                evidence=("31 samples in 14 groups share more than 80 % of their word triples.",),
                fix="keep one of each group, or set data.group_field",
            ),
            Finding(id="DATA031", severity="info", title="Answers are short", count=800, evidence=("Mean 34 tokens.",)),
        ),
        tokens={
            name: TokenStats(
                mean=137.8,
                p50=135,
                p95=198,
                max=281,
                answer_mean=34.2,
                answer_max=52,
                truncated_fraction=0.0033 if name == "train" else 0.0,
                histogram=tuple(bins),
            )
            for name in ("train", "validation", "test")
        },
        examples=('<|user|>\nhello!! I ordered the Lumen Lamp\n<|assistant|>\n[[{"product": "Lumen Lamp"}]]',),
    )


def resolved() -> ResolvedRecord:
    """Who made the run."""
    return ResolvedRecord(
        run_id=RUN_ID,
        created="2026-11-24T09:15:00+00:00",
        foretune_version="0.1.0",
        job=JobConfig().model_dump(mode="json"),
        origins={},
        folder=".",
        primary_metric="exact_match",
    )


def write_answers(folder: Path, rows: list[Answer]) -> None:
    """`answers.jsonl`."""
    text = "".join(row.model_dump_json() + "\n" for row in rows)
    (folder / "answers.jsonl").write_text(text, encoding="utf-8")


def write_run(folder: Path, result: EvaluationRecord | None = None) -> Path:
    """A whole run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    for record in (resolved(), plan(), dataset(), audit(), training(), result or evaluation()):
        record.write(folder)
    write_answers(folder, answers({"base_zero_shot": 5, "base_few_shot": 37, "fine_tuned": 101}))
    (folder / "adapter").mkdir(exist_ok=True)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(bytes(590_000))
    diagnose(JobConfig.model_validate({"train": {"learning_rate": 1e-3}}), run_dir=folder)
    return folder


@pytest.fixture
def c() -> ModuleType:
    """The builders of this file."""
    return sys.modules[__name__]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with every record."""
    return write_run(tmp_path / RUN_ID)
