"""Before the first step: the token audit of a ready run, weights that are numbers, samples that see only themselves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from foretune.config.job import PREFERENCE_METHODS, WHOLE_METHODS, JobConfig
from foretune.data.samples import Sample
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError
from foretune.models.load import LoadedModel
from foretune.models.virtual import num_virtual_tokens
from foretune.records.token_audit import TokenAuditRecord
from foretune.train.audited import Audited
from foretune.train.objective import Row
from foretune.train.passes import Passes
from foretune.train.rows import Rows
from foretune.train.token_audit import token_audit

__all__ = ["audit_tokens", "check_finite", "check_isolation", "model_config", "untrained_ids"]

UNTRAINED = 1e-3  # norm of an embedding, as a share of the median, below which it was never trained
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}


def audit_tokens(
    job: JobConfig,
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    train: Rows,
    validation: Rows,
    samples: Sequence[Sample],
    *,
    max_seq_len: int,
) -> TokenAuditRecord:
    """The token audit of a run that is ready to train; `samples` are those that `train` was built from, in order.

    Raises ConfigError where the base holds numbers that are not finite. What the audit finds is for `check_tokens`.
    """
    check_finite(loaded)
    table = _embedding(loaded)
    keeps_embedding = job.train.method not in WHOLE_METHODS
    return token_audit(
        Audited(
            tokenizer=tokenizer,
            kind=loaded.kind,
            method=job.train.method,
            train_on=job.train.advanced.train_on,
            train=train.rows,
            validation=validation.rows,
            samples=samples,
            dropped=train.places,
            num_dropped=train.num_dropped,
            max_seq_len=max_seq_len,
            max_positions=loaded.max_len,
            num_virtual_tokens=num_virtual_tokens(loaded.model),
            embedding_rows=None if table is None else table.shape[0],
            packs_documents=job.train.method == "pretrain",
            untrained_ids=untrained_ids(loaded) if keeps_embedding else frozenset(),
            model_config=model_config(loaded.folder),
        )
    )


def model_config(folder: Path) -> dict[str, Any]:
    """`config.json` with `generation_config.json` over it, where they are."""
    found: dict[str, Any] = {}
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            found |= json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def _embedding(loaded: LoadedModel) -> torch.Tensor | None:
    weight = getattr(loaded.model.get_input_embeddings(), "weight", None)
    return weight if isinstance(weight, torch.Tensor) else None


@torch.no_grad()
def untrained_ids(loaded: LoadedModel) -> frozenset[int]:
    """Tokens whose embedding is (nearly) zero, as tokens that were added for later use and never trained have it."""
    table = _embedding(loaded)
    if table is None or not table.is_floating_point():
        return frozenset()
    norms = table.float().norm(dim=1)
    small = (norms < UNTRAINED * norms.median()).nonzero()[:, 0]
    return frozenset(int(one) for one in small.tolist())


@torch.no_grad()
def check_finite(loaded: LoadedModel) -> None:
    """Raise ConfigError where a weight of the base is NaN or infinite: every loss would be NaN."""
    for name, value in loaded.model.named_parameters():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ConfigError(
                f"{loaded.folder.name}: {name.replace('.base.', '.')} holds numbers that are not finite, "
                "so every loss would be NaN",
                fix="download the weights again, or use a checkpoint from before they broke",
            )


@torch.no_grad()
def check_isolation(loaded: LoadedModel, passes: Passes, rows: Sequence[Row], *, method: str, precision: str) -> float:
    """How far the loss of three rows computed together is from that of each alone, relative; 0 for preference methods.

    Equal losses mean that packed samples have positions of their own and see only themselves. Raises ConfigError
    beyond rounding (fp32 1e-4, bf16 2e-2).
    """
    if method in PREFERENCE_METHODS or len(rows) < 2:
        return 0.0  # a preference row is judged against its batch
    loaded.model.eval()
    chosen = sorted(rows[:256], key=lambda row: row.length)[:3]
    budget = 4 * sum(row.length for row in chosen)
    alone = sum(_loss(passes, [row], budget) for row in chosen)
    error = abs(_loss(passes, chosen, budget) - alone) / max(abs(alone), 1e-9)
    if error > TOLERANCE[precision]:
        raise ConfigError(
            f"samples that share a batch change each other's loss by {error:.1%}: attention reaches across samples",
            fix='train.advanced.engine = "padded"',
        )
    return error


def _loss(passes: Passes, rows: Sequence[Row], budget_tokens: int) -> float:
    return sum(float(micro.loss().loss) for micro in passes.cut(rows, budget_tokens))
