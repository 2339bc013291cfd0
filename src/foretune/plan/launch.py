"""What an offer would launch: a SkyPilot task, a script or a provider's job request, as text; nothing is ever sent."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import shlex
from typing import NamedTuple

from foretune.errors import ConfigError
from foretune.plan.launch_cloud import CLOUD_KINDS, cloud_job
from foretune.plan.launch_hosted import LaunchJob, hosted_request
from foretune.records.forecast import Offer

__all__ = ["LAUNCH_KINDS", "Launch", "LaunchJob", "launch", "sky_task"]

LAUNCH_KINDS = ("auto", "sky", "script", *CLOUD_KINDS)
LEAST_DISK_GB = 50
TPU = "TPU"
MODAL = "Modal"
MODAL_SECONDS = 86_400

# SkyPilot's clouds (skypilot 0.14, sky/skylet/constants.py) by the beginning of our provider names; others it cannot
# start.
SKY_CLOUDS = {
    "AWS": "aws",
    "Azure": "azure",
    "CoreWeave": "kubernetes",
    "DigitalOcean": "do",
    "Google Cloud": "gcp",
    "Lambda": "lambda",
    "Nebius": "nebius",
    "Paperspace": "paperspace",
    "RunPod": "runpod",
    "Vast": "vast",
    "Verda": "verda",
}
# SkyPilot's names of accelerators (skypilot-catalog v8, common/accelerators.csv) where they differ from ours.
SKY_NAMES = {
    "A100-40": "A100",
    "A100-80": "A100-80GB",
    "A100-80 PCIe": "A100-80GB",
    "H100 NVL": "H100-NVL",
    "H100 PCIe": "H100",
    "Quadro RTX 6000": "RTX6000",
    "RTX 4000 Ada": "RTX4000-Ada",
    "RTX 6000 Ada": "RTX6000-Ada",
    "V100-32": "V100-32GB",
}
SKY_NAMES_AT = {
    ("runpod", "H100"): "H100-SXM",
    ("runpod", "H200"): "H200-SXM",
    ("runpod", "A100-80"): "A100-80GB-SXM",
    ("lambda", "RTX A6000"): "A6000",
    ("paperspace", "RTX A4000"): "A4000",
}


class Launch(NamedTuple):
    """The text of a file, the command that starts it, and what to know before."""

    kind: str
    text: str
    start: str
    note: str


def launch(offer: Offer, job: LaunchJob | None = None, kind: str = "auto", file: str = "FILE") -> Launch:
    """What `offer` would launch for `job`, to be written to `file`. Raises ConfigError for a kind that cannot be.

    `kind` auto is the provider's request where it is hosted, else SkyPilot's task, else a script for the machine.
    """
    given = job or LaunchJob()
    if kind not in LAUNCH_KINDS:
        raise ConfigError(f"--launch-as {kind}: expected one of {', '.join(LAUNCH_KINDS)}", fix="--launch-as auto")
    if kind in CLOUD_KINDS:
        text, start, note = cloud_job(kind, offer, given.command, given.disk_gb, file)
        return Launch(kind, text, start, note)
    several = "; a process for each device shares every update" if offer.num_gpus > 1 else ""
    if offer.kind == "hosted":
        return Launch(
            "request", hosted_request(offer.provider, given), f"cat {file}", "the request is not sent; send it yourself"
        )
    if kind == "sky" or (kind == "auto" and _sky_cloud(offer) and not offer.device.startswith(TPU)):
        return Launch(
            "sky",
            sky_task(offer, given),
            f"sky launch {file}",
            f"SkyPilot starts the machine and stops it when idle{several}",
        )
    if kind == "auto" and offer.provider == MODAL:
        note = "Modal starts the machine for the run; results stay in its volume foretune-runs"
        return Launch("modal", _modal(offer, given), f"modal run {file}", note)
    return Launch(
        "script", _script(offer, given), f"bash {file}", f"run it on the machine, in the folder of the job{several}"
    )


def sky_task(offer: Offer, job: LaunchJob | None = None) -> str:
    """The SkyPilot task that runs a job on an offer (docs.skypilot.co, SkyPilot YAML)."""
    given, cloud = job or LaunchJob(), _sky_cloud(offer)
    lines = [
        f"# {offer.title} at {offer.provider}, {offer.method}; {offer.basis}".rstrip("; "),
        *_several(offer),
        "name: foretune",
        "resources:",
        *(
            [f"  infra: {cloud}"]
            if cloud
            else [f"  # {offer.provider} is not one of SkyPilot's clouds: it looks elsewhere"]
        ),
        f"  accelerators: {_sky_name(offer, cloud)}:{offer.num_gpus}",
        f"  disk_size: {max(LEAST_DISK_GB, round(2 * given.disk_gb))}",
        "  autostop:",
        "    idle_minutes: 10",
        "    down: false",
        "workdir: .",
        "setup: |",
        "  pip install foretune",
        "run: |",
        *(f"  {command}" for command in given.commands_on(offer.num_gpus)),
    ]
    return "\n".join(lines) + "\n"


def _several(offer: Offer) -> list[str]:
    """What is known of foretune on several devices."""
    if offer.num_gpus < 2:
        return []
    return [
        f"# {offer.num_gpus} processes share every update, in shards (FSDP2) unless the base is packed; how fast is",
        "# not measured: the prediction is that of frameworks that shard.",
    ]


def _sky_cloud(offer: Offer) -> str:
    return next((cloud for name, cloud in SKY_CLOUDS.items() if offer.provider.startswith(name)), "")


def _sky_name(offer: Offer, cloud: str) -> str:
    usual = SKY_NAMES.get(offer.device, offer.device.replace(" ", ""))
    return SKY_NAMES_AT.get((cloud, offer.device), usual)


def _script(offer: Offer, job: LaunchJob) -> str:
    """What to type on a rented machine that SkyPilot cannot start."""
    unable = "# foretune does not train on TPUs: take the settings to a framework that does.\n"
    return (
        "#!/usr/bin/env bash\n"
        f"# {offer.title} at {offer.provider}, {offer.method}; {offer.basis}\n"
        + (unable if offer.device.startswith(TPU) else "")
        + "".join(f"{line}\n" for line in _several(offer))
        + "# Start such a machine in the provider's console, copy this folder to it, then run this script there.\n"
        "set -euo pipefail\n"
        "pip install foretune\n"
        "foretune doctor\n" + "".join(f"{command}\n" for command in job.commands_on(offer.num_gpus))
    )


def _modal(offer: Offer, job: LaunchJob) -> str:
    """A Modal app (modal.com/docs) that trains on the offer's devices and keeps the runs in a volume."""
    device = SKY_NAMES.get(offer.device, offer.device.replace(" ", ""))
    words = [*shlex.split(job.command), "--runs-dir", "/runs"]
    return (
        f'"""{offer.title} at {offer.provider}, {offer.method}; {offer.basis}"""\n\n'
        "import subprocess\n\nimport modal\n\n"
        'image = modal.Image.debian_slim(python_version="3.12").pip_install("foretune")\n'
        'image = image.add_local_dir(".", "/job")\n'
        'runs = modal.Volume.from_name("foretune-runs", create_if_missing=True)\n'
        'app = modal.App("foretune", image=image)\n\n\n'
        f'@app.function(gpu="{device}:{offer.num_gpus}", volumes={{"/runs": runs}}, timeout={MODAL_SECONDS})\n'
        "def train():\n"
        f'    subprocess.run({words!r}, cwd="/job", check=True)\n\n\n'
        "@app.local_entrypoint()\ndef main():\n    train.remote()\n"
    )
