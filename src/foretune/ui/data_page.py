"""Pages of data that stand alone: an audit, coverage of production, a cleaned version, a difference of versions."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foretune
from foretune.audit.coverage.record import CoverageRecord
from foretune.data.clean.clean import CleanRecord
from foretune.data.diff import DatasetDiff
from foretune.data.samples import Sample
from foretune.data.split import SPLITS
from foretune.data.store import DatasetStore
from foretune.records.audit import AuditRecord
from foretune.records.base import write_atomically
from foretune.ui.audited import audit_headline, audit_view
from foretune.ui.cleaned import clean_headline, clean_view, diff_headline, diff_view
from foretune.ui.covered import coverage_headline, coverage_view
from foretune.ui.portrait import read_rows
from foretune.ui.report import environment
from foretune.ui.run_folder import read_run_folder
from foretune.ui.settings import longest_row

__all__ = ["write_audit_page", "write_clean_page", "write_coverage_page", "write_diff_page"]


def write_audit_page(run_dir: str | Path, path: str | Path, *, name: str, run_id: str = "") -> Path:
    """The audit of a collected run as one HTML file; `name` is what was audited, as the user wrote it.

    `run_id` names a run that stays, for commands. Raises NotFound where the folder has no audit, and DoesNotFit where
    the file cannot be written.
    """
    run, record = read_run_folder(run_dir), AuditRecord.read(run_dir)
    rows = read_rows(run_dir)
    limit = longest_row(run, rows.tokenizer if rows else None)
    values = {
        "name": name,
        "record": record,
        "dataset": run.dataset,
        "headline": audit_headline(record),
        "audit": audit_view(record, run.dataset, rows, max_seq_len=limit, run_id=run_id),
    }
    return _written("audit.html.j2", path, values)


def write_coverage_page(record: CoverageRecord, path: str | Path, *, train: str, production: str) -> Path:
    """Coverage of production as one HTML file; `train` and `production` are the files as the user wrote them."""
    values = {
        "record": record,
        "headline": coverage_headline(record),
        "view": coverage_view(record),
        "train": train,
        "production": production,
    }
    return _written("coverage.html.j2", path, values)


def write_clean_page(record: CleanRecord, path: str | Path, *, store: DatasetStore | None = None) -> Path:
    """What a recipe did, step by step, as one HTML file; with the store of both versions also with example rows."""
    rows: list[dict[str, Sample]] = [{}, {}]
    if store is not None:
        rows = [_by_id(store, version) for version in (record.parents[0], record.version)]
    return _written("clean.html.j2", path, {"headline": clean_headline(record), "view": clean_view(record, *rows)})


def write_diff_page(diff: DatasetDiff, path: str | Path) -> Path:
    """The difference of two versions, row by row, as one HTML file."""
    return _written("diff.html.j2", path, {"headline": diff_headline(diff), "view": diff_view(diff)})


def _by_id(store: DatasetStore, version: str, splits: Sequence[str] = SPLITS) -> dict[str, Sample]:
    return {sample.id: sample for name in splits for sample in store.load(version, name)}


def _written(template: str, path: str | Path, values: dict[str, Any]) -> Path:
    target = Path(path)
    text = environment().get_template(template).render(foretune_version=foretune.__version__, **values)
    write_atomically(target, text)
    return target
