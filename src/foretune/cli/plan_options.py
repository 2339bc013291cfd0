"""The options of `foretune plan`: a model, a device, a training setup, money, and questions about the project."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Base",
    "Batch",
    "Checkpointing",
    "Choices",
    "DataFile",
    "Epochs",
    "Explain",
    "Framework",
    "Gpu",
    "GradAccum",
    "Html",
    "Job",
    "Launch",
    "LaunchAs",
    "MaxSeqLen",
    "Measured",
    "Method",
    "MicroBatchSize",
    "NumExamples",
    "NumGpus",
    "OfferRow",
    "OptimizerDtype",
    "Packing",
    "Parallelism",
    "Params",
    "Precision",
    "PricePerGpuHour",
    "Probe",
    "ProjectFile",
    "Rank",
    "ShowQuestions",
    "ShowScorecard",
    "TokensPerExample",
]

Word = str | None
Whole = int | None
MODEL, SETUP, MONEY, OTHER = "The model", "The training", "Time and money", "Other questions"


def dollars(text: str | float) -> float:
    """A plain number of dollars; another currency is an error that says where its rate goes."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no plain number of dollars; other currencies have their rate under [rates] of the price file"
        ) from None


def _option(*names: str, help: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


Job = Annotated[Path | None, typer.Argument(metavar="[JOB]", help="Job file, such as job.toml.", show_default=False)]
Base = Annotated[Word, _option("--base", help="Model of the catalogue, folder or hub id.", panel=MODEL)]
Params = Annotated[Word, _option("--params", metavar="7B", help="Parameters, where there is no name.", panel=MODEL)]
Method = Annotated[Word, _option("--method", help="lora, qlora, full, prompt, dpo or pretrain.", panel=MODEL)]
Gpu = Annotated[Word, _option("--gpu", metavar="NAME", help="Device, such as H100 or 'RTX 4090'.", panel=MODEL)]
NumGpus = Annotated[Whole, _option("--num-gpus", help="Number of devices.", panel=MODEL)]
DataFile = Annotated[Path | None, _option("--data", metavar="FILE", help="Samples: real lengths count.", panel=SETUP)]
NumExamples = Annotated[Whole, _option("--num-examples", help="Training examples.", panel=SETUP)]
TokensPerExample = Annotated[
    float | None, _option("--tokens-per-example", help="Mean tokens of an example.", panel=SETUP)
]
Epochs = Annotated[float | None, _option("--epochs", help="Passes over the examples.", panel=SETUP)]
MaxSeqLen = Annotated[Whole, _option("--max-seq-len", help="Longest row in tokens.", panel=SETUP)]
MicroBatchSize = Annotated[Whole, _option("--micro-batch-size", help="Rows a device and pass.", panel=SETUP)]
GradAccum = Annotated[Whole, _option("--grad-accum", help="Passes per update.", panel=SETUP)]
Rank = Annotated[Whole, _option("--rank", help="LoRA rank.", panel=SETUP)]
Precision = Annotated[Word, _option("--precision", help="bf16, fp16, fp32, int8, nf4 or fp8.", panel=SETUP)]
OptimizerDtype = Annotated[
    Word, _option("--optimizer-dtype", help="bf16, fp32 (with a master copy) or int8.", panel=SETUP)
]
Checkpointing = Annotated[Word, _option("--checkpointing", help="none, full or selective.", panel=SETUP)]
Packing = Annotated[bool | None, _option("--packing/--no-packing", help="Rows filled with many examples.", panel=SETUP)]
Framework = Annotated[Word, _option("--framework", help="foretune, hf, trl, litgpt, axolotl ...", panel=SETUP)]
Parallelism = Annotated[Word, _option("--parallelism", help="ddp, fsdp, zero3, or `tp8 pp2`.", panel=SETUP)]
PricePerGpuHour = Annotated[
    float | None,
    _option("--price-per-gpu-hour", metavar="USD", help="Price of one device.", panel=MONEY, parser=dollars),
]
Choices = Annotated[
    Word, _option("--choices", metavar="GOAL", help="Rank: cheapest, fastest, smallest or affordable.", panel=MONEY)
]
Launch = Annotated[
    Path | None, _option("--launch", metavar="FILE", help="Write what a row would launch; never sent.", panel=MONEY)
]
LaunchAs = Annotated[
    Word, _option("--launch-as", metavar="KIND", help="auto, sky, script, colab, sagemaker, vertex ...", panel=MONEY)
]
OfferRow = Annotated[
    int | None,
    typer.Option("--offer", metavar="N", min=1, help="Row to launch.", rich_help_panel=MONEY, show_default=False),
]
ProjectFile = Annotated[
    Path | None, _option("--project", metavar="FILE", help="Should we at all, when, does it pay.", panel=OTHER)
]
ShowQuestions = Annotated[bool, _option("--questions", help="Print a project file to fill in.", panel=OTHER)]
Batch = Annotated[Path | None, _option("--batch", metavar="CSV", help="A forecast for every row.", panel=OTHER)]
Measured = Annotated[
    Path | None, _option("--measured", metavar="CSV", help="Measured rows that calibrate --batch.", panel=OTHER)
]
ShowScorecard = Annotated[bool, _option("--scorecard", help="How good the predictions have been here.", panel=OTHER)]
Html = Annotated[Path | None, _option("--html", metavar="FILE", help="Write the plan as a page.", panel=OTHER)]
Explain = Annotated[bool, _option("--explain", help="Every term with its formula.", panel=OTHER)]
Probe = Annotated[bool, typer.Option("--probe", help="Measure a few real steps on this machine first.")]
