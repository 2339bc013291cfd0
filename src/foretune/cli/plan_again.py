"""The command that asks the planner again: what was given, with other options, ready to be pasted into a shell."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretune.plan.request import PlanRequest

__all__ = ["Asked", "asked_again", "next_command"]

FLAGS = {
    "base": "--base",
    "params": "--params",
    "method": "--method",
    "gpu": "--gpu",
    "num_gpus": "--num-gpus",
    "num_examples": "--num-examples",
    "tokens_per_example": "--tokens-per-example",
    "epochs": "--epochs",
    "max_seq_len": "--max-seq-len",
    "micro_batch_size": "--micro-batch-size",
    "grad_accum": "--grad-accum",
    "rank": "--rank",
    "precision": "--precision",
    "optimizer_dtype": "--optimizer-dtype",
    "checkpointing": "--checkpointing",
    "framework": "--framework",
    "parallelism": "--parallelism",
    "price_per_gpu_hour": "--price-per-gpu-hour",
}
TEMPLATE_OF_GOAL = {
    "classification": "sentiment",
    "extraction": "json-extract",
    "format": "json-extract",
    "behaviour": "support-chat",
}
USUAL_JOB = "job.toml"


@dataclass(frozen=True)
class Asked:
    """What a person asked the planner: flags, files and limits (0 = none); `full` is `given` over the job."""

    given: PlanRequest
    job: Path | None = None
    data: Path | None = None
    project: Path | None = None
    html: Path | None = None
    max_cost_usd: float = 0.0
    max_hours: float = 0.0
    full: PlanRequest | None = None
    job_data: Path | None = None

    @property
    def request(self) -> PlanRequest:
        """The request to answer."""
        return self.full or self.given

    @property
    def samples(self) -> Path | None:
        """The file of samples: as given, else the job's."""
        return self.data or self.job_data

    @property
    def job_file(self) -> str:
        """The job's file as it stands in commands."""
        return str(self.job) if self.job is not None else USUAL_JOB

    def again(self, **changes: Any) -> str:
        """The command that asks the same with some options changed."""
        values = self.given.model_dump(exclude_unset=True)
        return asked_again(values, job=self.job, data=self.data, **changes)


def asked_again(values: Mapping[str, Any], *, job: Path | None = None, data: Path | None = None, **changes: Any) -> str:
    """`foretune plan` with the given values and some changed; a change to None leaves the value out.

    Changes that are no field of a request become options by their own name: `choices="cheapest"`, `explain=True`.
    """
    known = {name: value for name, value in values.items() if name in FLAGS or name == "packing"}
    known |= {name: value for name, value in changes.items() if name in known or name in FLAGS}
    parts = ["foretune", "plan", *([str(job)] if job is not None else [])]
    for name, value in known.items():
        if name == "packing" and value is not None:
            parts.append("--packing" if value else "--no-packing")
        elif value is not None:
            parts += [FLAGS[name], _shown(value)]
    parts += ["--data", str(data)] if data is not None else []
    for name, value in changes.items():
        if name not in known and value is True:
            parts.append(f"--{name.replace('_', '-')}")
        elif name not in known and value is not None:
            parts += [f"--{name.replace('_', '-')}", _shown(value)]
    return shlex.join(parts)


def _shown(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def next_command(advised: str, goal: str = "unknown", job: Path | None = None) -> str:
    """What the advice says to do next, as a command that runs here: for this job, or a new one where there is none."""
    command = advised.partition("   # ")[0]
    if not command.startswith("foretune "):
        return "foretune faq rag" if "retriev" in advised else "foretune faq necessary"
    if USUAL_JOB in command and job is not None:
        return command.replace(USUAL_JOB, shlex.quote(str(job)))
    if USUAL_JOB in command and not Path(USUAL_JOB).is_file():
        return f"foretune init {TEMPLATE_OF_GOAL.get(goal, 'support-chat')}"
    if "data.jsonl" in command and not Path("data.jsonl").is_file():
        return "foretune faq data"
    return command
