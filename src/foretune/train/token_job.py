"""The token audit of a job before its model is loaded: the rows that training would get, by configuration alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretune.config.job import JobConfig
from foretune.data.samples import Sample
from foretune.data.targets import Scale, scale_of, target_numbers
from foretune.data.tokenizer import Tokenizer
from foretune.records.token_audit import TokenAuditRecord
from foretune.train.audited import Audited
from foretune.train.pre_flight import model_config
from foretune.train.rows import Rows, build_rows
from foretune.train.token_audit import token_audit

__all__ = ["audit_job_tokens"]

LENGTH_KEYS = ("max_position_embeddings", "n_positions", "seq_length")
USUAL_TOKENS = 4096


def audit_job_tokens(
    job: JobConfig, base: Path, train: Sequence[Sample], validation: Sequence[Sample]
) -> TokenAuditRecord:
    """What the audit before the first step would find, without the checks that need weights (TOK008).

    `base` is the folder of the base model. Raises DataError where rows cannot be built, NotFound.
    """
    tokenizer, config = Tokenizer.from_folder(base), model_config(base)
    kind, limit = _kind(job, config), _max_positions(config)
    num_virtual = job.train.advanced.num_prompt_tokens if job.train.method in ("prompt", "prefix") else 0
    room = (limit or tokenizer.max_len or USUAL_TOKENS) - num_virtual
    longest = min(job.train.max_seq_len or (1024 if job.train.method == "pretrain" else room), room)
    labels = tuple(sorted({sample.target for sample in train if sample.target}))
    scale = scale_of(target_numbers(train)) if kind == "regress" else Scale()

    def rows(samples: Sequence[Sample]) -> Rows:
        return build_rows(
            samples,
            tokenizer,
            kind=kind,
            max_seq_len=longest,
            train_on=job.train.advanced.train_on,
            labels=labels,
            pack=job.train.method == "pretrain",
            method=job.train.method,
            scale=scale,
        )

    built = rows(train)
    audited = Audited(
        tokenizer=tokenizer,
        kind=kind,
        method=job.train.method,
        train_on=job.train.advanced.train_on,
        train=built.rows,
        validation=rows(validation).rows if validation else (),
        samples=train,
        dropped=built.places,
        num_dropped=built.num_dropped,
        max_seq_len=longest,
        max_positions=limit,
        num_virtual_tokens=num_virtual,
        embedding_rows=config.get("vocab_size"),
        packs_documents=job.train.method == "pretrain",
        model_config=config,
    )
    return token_audit(audited)


def _kind(job: JobConfig, config: dict[str, Any]) -> str:
    if job.train.method in ("classify", "regress"):
        return job.train.method
    return "seq2seq" if config.get("is_encoder_decoder") else "causal"


def _max_positions(config: dict[str, Any]) -> int | None:
    if config.get("is_encoder_decoder") or config.get("model_type") == "bloom":
        return None
    return next((config[key] for key in LENGTH_KEYS if isinstance(config.get(key), int)), None)
