"""`observe`: probes of a trained run, each measured once and written to evidence.json, which diagnosis reads."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.errors import ForetuneError
from foretune.evaluate.case import open_case
from foretune.evaluate.probes.fits import fit_evidence, word_fit_evidence
from foretune.evaluate.probes.languages import language_evidence
from foretune.evaluate.probes.losses import (
    Losses,
    base_input_nats,
    end_evidence,
    input_sizes,
    prompt_evidence,
    sample_losses,
)
from foretune.evaluate.probes.overlap import overlap_evidence
from foretune.evaluate.probes.rows import row_evidence
from foretune.evaluate.probes.scope import NoEvidence, Scope
from foretune.evaluate.probes.scores import base_score, base_texts, chance_score, shape_evidence, split_score
from foretune.evaluate.probes.shift import Production, shift_evidence
from foretune.evaluate.probes.templates import template_losses
from foretune.evaluate.probes.whole import whole_validation_nats
from foretune.evaluate.systems import Progress
from foretune.records.evidence import EvidenceRecord
from foretune.records.run import ResolvedRecord

__all__ = ["observe"]

# What a probe may fail of without ending the run; it is then named in `not_measured`.
FAULTS = (ForetuneError, RuntimeError, ValueError, LookupError, ArithmeticError, MemoryError, OSError, TypeError)


class _Probe(NamedTuple):
    """The parts of the record that a probe fills, and how it measures them."""

    parts: tuple[str, ...]
    measure: Callable[[], Mapping[str, Any]]


def observe(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    on_progress: Progress | None = None,
    quick: bool = False,
    read_queries: Production | None = None,
) -> EvidenceRecord:
    """Probe the trained run in `run_dir` and write evidence.json; `quick` looks at 100 samples a split, not 300.

    The sealed test split stays closed: of its samples only the answers that evaluation wrote down are read. A part
    that cannot be measured is None, with the reason in `not_measured`. `read_queries` reads production samples that are
    no data file, such as request logs. Raises NotFound where the run is not trained,
    DataError and ConfigError where its records do not fit together.
    """
    began = time.monotonic()
    folder = Path(ResolvedRecord.read(run_dir).folder) if ResolvedRecord.exists(run_dir) else run_dir.parent
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    scope = Scope(case, quick)
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for probe in _probes(scope, read_queries):
        try:
            found |= probe.measure()
        except NoEvidence as reason:
            missing |= dict.fromkeys(probe.parts, str(reason))
        except FAULTS as error:
            missing |= dict.fromkeys(probe.parts, f"{type(error).__name__}: {error}")
    record = EvidenceRecord(
        run_id=run_dir.name,
        primary_metric=case.primary,
        num_train_samples=len(scope.own),
        seconds=time.monotonic() - began,
        not_measured=missing,
        **found,
    )
    record.write(run_dir)
    return record


def _probes(scope: Scope, read_queries: Production | None) -> list[_Probe]:
    """Every probe, those of the base first: two models are never in memory."""
    losses = Losses(scope)
    return [
        _Probe(("tokens_per_character", "uniform_nats"), lambda: input_sizes(scope)),
        _Probe(("rows",), lambda: {"rows": row_evidence(scope)}),
        _Probe(("base_input_nats",), lambda: {"base_input_nats": base_input_nats(scope)}),
        _Probe((), lambda: _ask_base(scope, losses)),
        _Probe(("losses",), lambda: {"losses": sample_losses(scope, losses)}),
        _Probe(("fits",), lambda: {"fits": fit_evidence(losses)}),
        _Probe(("word_fit",), lambda: {"word_fit": word_fit_evidence(scope)}),
        _Probe(("prompt",), lambda: {"prompt": prompt_evidence(losses)}),
        _Probe(("end",), lambda: {"end": end_evidence(losses)}),
        _Probe(("whole_validation_nats", "unended_validation_nats"), lambda: whole_validation_nats(scope)),
        _Probe(("templates",), lambda: {"templates": template_losses(scope)}),
        _Probe(("train_score",), lambda: {"train_score": split_score(scope, "train")}),
        _Probe(("validation_score",), lambda: {"validation_score": split_score(scope, "validation")}),
        _Probe(("chance_score",), lambda: {"chance_score": chance_score(scope)}),
        _Probe(("base_validation_score",), lambda: {"base_validation_score": base_score(scope)}),
        _Probe(("shape",), lambda: {"shape": shape_evidence(scope, base_texts(scope))}),
        _Probe(("overlap",), lambda: {"overlap": overlap_evidence(scope)}),
        _Probe(("shift",), lambda: {"shift": shift_evidence(scope, read_queries)}),
        _Probe(("languages",), lambda: {"languages": language_evidence(scope, read_queries)}),
    ]


def _ask_base(scope: Scope, losses: Losses) -> Mapping[str, Any]:
    """Have the base read and say all that it is wanted for while it is the model in memory; the parts follow."""
    if not scope.is_text and scope.kind in ("causal", "seq2seq"):
        base_texts(scope)
    if scope.kind in ("causal", "seq2seq"):
        _ = losses.base
    return {}
