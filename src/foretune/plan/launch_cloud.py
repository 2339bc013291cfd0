"""Job specifications for Colab, SageMaker, Vertex AI and Azure Machine Learning, as files that are never sent."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from foretune.errors import ConfigError
from foretune.records.forecast import Offer

__all__ = ["CLOUD_KINDS", "cloud_job"]

IMAGE = "python:3.12"
LEAST_DISK_GB = 100
MOST_SECONDS = 5 * 86_400

# Machines by device and number of devices, from the providers' lists of instance types (from memory, 2026-11-21).
SAGEMAKER = {
    ("T4", 1): "ml.g4dn.xlarge",
    ("T4", 4): "ml.g4dn.12xlarge",
    ("V100", 1): "ml.p3.2xlarge",
    ("V100", 4): "ml.p3.8xlarge",
    ("V100", 8): "ml.p3.16xlarge",
    ("A10G", 1): "ml.g5.2xlarge",
    ("A10G", 4): "ml.g5.12xlarge",
    ("A10G", 8): "ml.g5.48xlarge",
    ("L4", 1): "ml.g6.2xlarge",
    ("L4", 4): "ml.g6.12xlarge",
    ("L4", 8): "ml.g6.48xlarge",
    ("L40S", 1): "ml.g6e.2xlarge",
    ("L40S", 4): "ml.g6e.12xlarge",
    ("L40S", 8): "ml.g6e.48xlarge",
    ("A100-40", 8): "ml.p4d.24xlarge",
    ("A100-80", 8): "ml.p4de.24xlarge",
    ("H100", 8): "ml.p5.48xlarge",
    ("H200", 8): "ml.p5en.48xlarge",
}
VERTEX = {
    ("T4", 1): ("n1-standard-8", "NVIDIA_TESLA_T4"),
    ("T4", 2): ("n1-standard-16", "NVIDIA_TESLA_T4"),
    ("T4", 4): ("n1-standard-32", "NVIDIA_TESLA_T4"),
    ("V100", 1): ("n1-standard-8", "NVIDIA_TESLA_V100"),
    ("L4", 1): ("g2-standard-8", "NVIDIA_L4"),
    ("L4", 2): ("g2-standard-24", "NVIDIA_L4"),
    ("L4", 4): ("g2-standard-48", "NVIDIA_L4"),
    ("L4", 8): ("g2-standard-96", "NVIDIA_L4"),
    ("A100-40", 1): ("a2-highgpu-1g", "NVIDIA_TESLA_A100"),
    ("A100-40", 2): ("a2-highgpu-2g", "NVIDIA_TESLA_A100"),
    ("A100-40", 4): ("a2-highgpu-4g", "NVIDIA_TESLA_A100"),
    ("A100-40", 8): ("a2-highgpu-8g", "NVIDIA_TESLA_A100"),
    ("A100-80", 1): ("a2-ultragpu-1g", "NVIDIA_A100_80GB"),
    ("A100-80", 2): ("a2-ultragpu-2g", "NVIDIA_A100_80GB"),
    ("A100-80", 4): ("a2-ultragpu-4g", "NVIDIA_A100_80GB"),
    ("A100-80", 8): ("a2-ultragpu-8g", "NVIDIA_A100_80GB"),
    ("H100", 1): ("a3-highgpu-1g", "NVIDIA_H100_80GB"),
    ("H100", 2): ("a3-highgpu-2g", "NVIDIA_H100_80GB"),
    ("H100", 4): ("a3-highgpu-4g", "NVIDIA_H100_80GB"),
    ("H100", 8): ("a3-highgpu-8g", "NVIDIA_H100_80GB"),
    ("H200", 8): ("a3-ultragpu-8g", "NVIDIA_H200_141GB"),
    ("B200", 8): ("a4-highgpu-8g", "NVIDIA_B200"),
}
AZURE = {
    ("T4", 1): "Standard_NC4as_T4_v3",
    ("T4", 4): "Standard_NC64as_T4_v3",
    ("A100-80 PCIe", 1): "Standard_NC24ads_A100_v4",
    ("A100-80 PCIe", 2): "Standard_NC48ads_A100_v4",
    ("A100-80 PCIe", 4): "Standard_NC96ads_A100_v4",
    ("A100-40", 8): "Standard_ND96asr_v4",
    ("A100-80", 8): "Standard_ND96amsr_A100_v4",
    ("H100 NVL", 1): "Standard_NC40ads_H100_v5",
    ("H100 NVL", 2): "Standard_NC80adis_H100_v5",
    ("H100", 8): "Standard_ND96isr_H100_v5",
}
COLAB = {"T4": "T4", "L4": "L4", "A100-40": "A100", "A100-80": "A100", "H100": "H100"}


def cloud_job(kind: str, offer: Offer, command: str, disk_gb: float, file: str) -> tuple[str, str, str]:
    """The file for a managed service, the command that starts it, and a note. Raises ConfigError without a machine."""
    return BUILDERS[kind](offer, command, disk_gb, file)


def _machine(kind: str, machines: dict[tuple[str, int], Any], offer: Offer) -> Any:
    found = machines.get((offer.device, offer.num_gpus))
    if found is None:
        there = ", ".join(dict.fromkeys(f"{number} x {device}" for device, number in machines))
        raise ConfigError(
            f"{kind} has no machine with {offer.title}; it has {there}", fix="choose such a row: --offer N"
        )
    return found


def _seconds(offer: Offer) -> int:
    """Twice the slow end of the prediction, at least an hour: what the service may take before it ends the job."""
    hours = offer.train_hours.high if offer.train_hours else 24.0
    return min(MOST_SECONDS, max(3600, math.ceil(2 * hours * 3600)))


def _sagemaker(offer: Offer, command: str, disk_gb: float, file: str) -> tuple[str, str, str]:
    """CreateTrainingJob of the SageMaker interface."""
    data = {"S3DataType": "S3Prefix", "S3Uri": "s3://YOUR-BUCKET/job/", "S3DataDistributionType": "FullyReplicated"}
    spec = {
        "TrainingJobName": "foretune",
        "RoleArn": "arn:aws:iam::123456789012:role/YOUR-SAGEMAKER-ROLE",
        "AlgorithmSpecification": {
            "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/YOUR-IMAGE-WITH-PYTHON-3.12",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["bash", "-c"],
            "ContainerArguments": [
                f"cd /opt/ml/input/data/job && pip install foretune && {command} --runs-dir /opt/ml/model"
            ],
        },
        "InputDataConfig": [{"ChannelName": "job", "DataSource": {"S3DataSource": data}}],
        "OutputDataConfig": {"S3OutputPath": "s3://YOUR-BUCKET/runs/"},
        "ResourceConfig": {
            "InstanceType": _machine("SageMaker", SAGEMAKER, offer),
            "InstanceCount": 1,
            "VolumeSizeInGB": max(LEAST_DISK_GB, math.ceil(2 * disk_gb)),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": _seconds(offer)},
    }
    start = f"aws sagemaker create-training-job --cli-input-json file://{file}"
    return json.dumps(spec, indent=2) + "\n", start, "put in your role, image and bucket first"


def _vertex(offer: Offer, command: str, disk_gb: float, file: str) -> tuple[str, str, str]:
    """The jobSpec of a Vertex AI CustomJob, as `gcloud ai custom-jobs create --config` reads it."""
    machine, accelerator = _machine("Vertex AI", VERTEX, offer)
    pool = {
        "machineSpec": {
            "machineType": machine,
            "acceleratorType": accelerator,
            "acceleratorCount": offer.num_gpus,
        },
        "replicaCount": 1,
        "diskSpec": {"bootDiskSizeGb": max(LEAST_DISK_GB, math.ceil(2 * disk_gb))},
        "containerSpec": {
            "imageUri": IMAGE,
            "command": ["bash", "-c"],
            "args": [f"cd /gcs/YOUR-BUCKET/job && pip install foretune && {command}"],
        },
    }
    spec = {"workerPoolSpecs": [pool], "scheduling": {"timeout": f"{_seconds(offer)}s"}}
    start = f"gcloud ai custom-jobs create --region=us-central1 --display-name=foretune --config={file}"
    return (
        json.dumps(spec, indent=2) + "\n",
        start,
        "put the job's folder into your bucket and its name into the file first",
    )


def _azureml(offer: Offer, command: str, disk_gb: float, file: str) -> tuple[str, str, str]:
    """A command job of Azure Machine Learning; a JSON document is valid YAML."""
    del disk_gb  # the size of a machine's disk comes with its type
    spec = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "type": "command",
        "display_name": "foretune",
        "experiment_name": "foretune",
        "code": ".",
        "command": f"pip install foretune && {command} --runs-dir ./outputs",
        "environment": {"image": IMAGE},
        "resources": {"instance_type": _machine("Azure Machine Learning", AZURE, offer), "instance_count": 1},
        "limits": {"timeout": _seconds(offer)},
    }
    start = f"az ml job create --file {file}"
    return json.dumps(spec, indent=2) + "\n", start, "serverless compute; set the workspace with az configure first"


def _colab(offer: Offer, command: str, disk_gb: float, file: str) -> tuple[str, str, str]:
    """A notebook (nbformat 4) for Google Colab."""
    del disk_gb
    cells = [
        _words(
            f"# foretune on Colab\n{offer.title}, {offer.method}. Zip the folder of the job, upload it, run all cells."
        ),
        _code("!pip install -q foretune\n!foretune doctor"),
        _code('from google.colab import files\nfor name in files.upload():\n    !unzip -o -q "{name}"'),
        _code(f"!{command}"),
        _code("!zip -q -r runs.zip runs\nfiles.download('runs.zip')"),
    ]
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "accelerator": "GPU",
            "colab": {"gpuType": COLAB.get(offer.device, "T4"), "provenance": []},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
        },
        "cells": [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)],
    }
    fits = (
        ""
        if offer.device in COLAB and offer.num_gpus == 1
        else f"Colab has no {offer.title}: it takes a T4; check that it fits"
    )
    return json.dumps(notebook, indent=1) + "\n", f"open https://colab.research.google.com and upload {file}", fits


def _words(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": text}


BUILDERS: dict[str, Callable[[Offer, str, float, str], tuple[str, str, str]]] = {
    "colab": _colab,
    "sagemaker": _sagemaker,
    "vertex": _vertex,
    "azureml": _azureml,
}
CLOUD_KINDS = tuple(BUILDERS)
