"""The job of a run with one cause mended: its settings changed, and its rows where they are at fault."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foretune.config.read import read_job
from foretune.config.settings import moved_paths, settings_of
from foretune.diagnose.mend import write_mended
from foretune.diagnose.patch import apply_patch
from foretune.errors import ConfigError, NotFound
from foretune.records.base import write_atomically
from foretune.records.diagnosis import Cause, DiagnosisRecord
from foretune.records.run import JOB_FILE, ResolvedRecord

__all__ = ["write_next_job"]


def write_next_job(run_dir: Path, number: int, target: Path) -> tuple[Path, dict[str, Any]]:
    """Write the job of a run against cause `number` (from 1) to `target`; the file and the settings that were changed.

    Rows that must change are written into the folder `<target>-data` beside it. Raises NotFound where the diagnosis
    has no such cause, ConfigError rather than overwrite something or where the cause has no change to apply.
    """
    data_dir = target.with_name(f"{target.stem}-data")
    for path in (target, data_dir):
        if path.exists():
            raise ConfigError(f"{path} exists already", fix="--out ANOTHER.toml")
    cause, record = _cause(run_dir, number), ResolvedRecord.read(run_dir)
    before = settings_of(record.job)
    wanted = moved_paths(before | cause.patch, Path(record.folder), target.parent)
    patch = dict(cause.patch)
    if cause.data_steps:
        mended = write_mended(cause.data_steps, run_dir=run_dir, folder=data_dir, job_dir=target.parent)
        wanted |= mended.patch
        patch |= {name: value for name, value in mended.patch.items() if value != before[name]}
    written = settings_of(read_job(run_dir / JOB_FILE).model_dump(mode="json"))
    changed = {name: value for name, value in wanted.items() if value != written[name]} | {"parent": run_dir.name}
    comment = f"# From run {run_dir.name}, changed against {cause.mode}: {json.dumps(patch)}\n"
    text = (run_dir / JOB_FILE).read_text(encoding="utf-8")
    write_atomically(target, comment + apply_patch(text, changed))
    read_job(target)
    return target, patch


def _cause(run_dir: Path, number: int) -> Cause:
    causes = DiagnosisRecord.read(run_dir).causes
    if not causes:
        raise NotFound(f"no cause {number}: nothing was found in {run_dir.name}, so there is nothing to mend")
    if not 1 <= number <= len(causes):
        fix = "--apply 1" if len(causes) == 1 else f"--apply 1 to {len(causes)}"
        raise NotFound(f"no cause {number}: the diagnosis of {run_dir.name} has {len(causes)}", fix=fix)
    cause = causes[number - 1]
    if not cause.can_apply:
        raise ConfigError(f"no setting mends {cause.mode.replace('_', ' ')} by itself", fix=cause.fixes[0])
    return cause
