"""Job requests of hosted fine-tuning as the providers document them: address, headers and body, never sent."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["LaunchJob", "hosted_request"]

MODEL_IDS = "as the provider writes it"


@dataclass(frozen=True)
class LaunchJob:
    """What is to be trained, as far as a launch has to say it; `settings` are what the job file is changed by."""

    job: str = "job.toml"
    settings: tuple[str, ...] = ()
    base: str = ""
    data: str = "train.jsonl"
    method: str = "lora"
    epochs: float = 3.0
    rank: int = 16
    max_seq_len: int = 0
    packing: bool = True
    disk_gb: float = 0.0

    @property
    def command(self) -> str:
        """The command that trains on the machine."""
        return shlex.join(["foretune", "run", self.job, "-y", *self._set])

    def commands_on(self, num_gpus: int) -> tuple[str, ...]:
        """The commands that train on a machine with so many devices, the model in shards, and evaluate."""
        if num_gpus < 2:
            return (self.command,)
        is_packed = any("qlora" in one or "quantise_base" in one for one in self.settings) or self.method == "qlora"
        sharded = () if is_packed else ("--set", "train.advanced.parallel=fsdp")
        words = ["foretune", "train", self.job, "-y", "--nproc", str(num_gpus), *sharded, *self._set]
        return shlex.join(words), "foretune evaluate latest"

    @property
    def _set(self) -> list[str]:
        return [part for one in self.settings for part in ("--set", one)]


def hosted_request(provider: str, job: LaunchJob) -> str:
    """The request that would start `job` at `provider`, as JSON; where its interface is not known, what to enter."""
    build = REQUESTS.get(provider)
    found = build(job) if build else _by_hand(provider, job)
    return json.dumps({"provider": provider, **found}, indent=2) + "\n"


def _whole(epochs: float) -> int:
    return max(1, round(epochs))


def _together(job: LaunchJob) -> dict[str, Any]:
    """docs.together.ai/reference/post-fine-tunes; fields as in the Python SDK 3.1.1."""
    lora = {"type": "Lora", "lora_r": job.rank, "lora_alpha": 2 * job.rank, "lora_trainable_modules": "all-linear"}
    body: dict[str, Any] = {
        "training_file": "FILE_ID",
        "model": job.base,
        "n_epochs": _whole(job.epochs),
        "batch_size": "max",
        "learning_rate": 1e-4 if job.method != "full" else 1e-5,
        "warmup_ratio": 0.06,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "packing": job.packing,
        "training_type": {"type": "Full"} if job.method == "full" else lora,
        "training_method": {"method": "dpo" if job.method == "dpo" else "sft"},
    }
    if job.max_seq_len:
        body["max_seq_length"] = job.max_seq_len
    upload = f"together files upload {job.data} --purpose fine-tune   # prints FILE_ID"
    return _post("https://api.together.xyz/v1/fine-tunes", "TOGETHER_API_KEY", body, upload)


def _fireworks(job: LaunchJob) -> dict[str, Any]:
    """docs.fireworks.ai, create supervised fine-tuning job; fields as in the Python SDK 1.2.30."""
    body: dict[str, Any] = {
        "dataset": "accounts/ACCOUNT/datasets/DATASET",
        "baseModel": job.base,
        "epochs": _whole(job.epochs),
        "loraRank": 0 if job.method == "full" else job.rank,
        "displayName": "foretune",
    }
    if job.max_seq_len:
        body["maxContextLength"] = job.max_seq_len
    kind = "dpoJobs" if job.method == "dpo" else "supervisedFineTuningJobs"
    upload = f"firectl dataset create DATASET {job.data}"
    return _post(f"https://api.fireworks.ai/v1/accounts/ACCOUNT/{kind}", "FIREWORKS_API_KEY", body, upload)


def _openai(job: LaunchJob) -> dict[str, Any]:
    """The OpenAI fine-tuning interface; fields as in the Python SDK 3.52.0."""
    kind = "dpo" if job.method == "dpo" else "supervised"
    body = {
        "model": job.base,
        "training_file": "FILE_ID",
        "method": {"type": kind, kind: {"hyperparameters": {"n_epochs": _whole(job.epochs)}}},
        "suffix": "foretune",
    }
    upload = f"openai files create --purpose fine-tune --file {job.data}   # prints FILE_ID"
    return _post("https://api.openai.com/v1/fine_tuning/jobs", "OPENAI_API_KEY", body, upload)


def _tinker(job: LaunchJob) -> dict[str, Any]:
    """Tinker has no jobs: its clients run a loop of forward_backward, optim_step and save_state."""
    return {
        "kind": "training loop, not a job",
        "create_lora_training_client": {"base_model": job.base, "rank": job.rank},
        "loop": ["forward_backward", "optim_step", "save_state"],
        "epochs": _whole(job.epochs),
        "data": job.data,
    }


def _by_hand(provider: str, job: LaunchJob) -> dict[str, Any]:
    """The values to enter where no interface for jobs is documented here."""
    return {
        "kind": f"enter these in the console of {provider}: its request is not documented here",
        "model": job.base,
        "data": job.data,
        "epochs": _whole(job.epochs),
        "lora_rank": job.rank,
        "max_seq_len": job.max_seq_len or None,
    }


def _post(url: str, key: str, body: dict[str, Any], upload: str) -> dict[str, Any]:
    return {
        "before": [upload],
        "method": "POST",
        "url": url,
        "headers": {"Authorization": f"Bearer ${key}", "Content-Type": "application/json"},
        "body": body,
        "check": f"`model` must be {MODEL_IDS}; this request was written, not sent",
    }


REQUESTS: dict[str, Callable[[LaunchJob], dict[str, Any]]] = {
    "Together": _together,
    "Fireworks": _fireworks,
    "OpenAI": _openai,
    "Tinker": _tinker,
}
