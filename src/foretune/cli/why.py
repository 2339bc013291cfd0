"""`foretune runs why`: why a run failed, what shows it, and the job with which it would have gone on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir
from foretune.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from foretune.records.post_mortem import PostMortemRecord

__all__ = ["command"]


def command(
    run: Run = LATEST,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the job with the settings that mend it.")
    ] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Say why a run failed, and which settings would have fitted.

    \b
    Examples:
      foretune runs why
      foretune runs why json-extract-001 --out next.toml
    """
    from rich.markup import escape

    from foretune.records.run import find_run
    from foretune.train.post_mortem import overlay_toml, post_mortem, post_mortem_lines

    run_dir = find_run(runs_dir, run)
    record = _kept(run_dir) or post_mortem(run_dir)
    if record is None:
        raise NotFound(f"run {run_dir.name} did not fail", fix=f"foretune runs show {run_dir.name}")
    overlay = overlay_toml(record)
    document = {"command": "runs why", "run_id": run_dir.name, "post_mortem": record.as_dict(), "overlay": overlay}
    first, *rest = (escape(line) for line in post_mortem_lines(record))
    shown = [f"[bold red]{first}[/]", *rest, *(["", *map(escape, overlay.splitlines())] if overlay else [])]
    if out is not None:
        return Answer(document | {"job": str(_write(run_dir, out, record))}, [*shown, "", f"Wrote {out}"],
                      next=f"foretune run {out}")  # fmt: skip
    return Answer(document, shown, next=_next(record))


def _kept(run_dir: Path) -> PostMortemRecord | None:
    """The post-mortem that was written when the run failed, as long as it still stands as failed."""
    from foretune.records.post_mortem import PostMortemRecord
    from foretune.records.run import run_state

    failed = run_state(run_dir) in ("failed", "interrupted", "created")
    return PostMortemRecord.read(run_dir) if failed and PostMortemRecord.exists(run_dir) else None


def _next(record: PostMortemRecord) -> str:
    if record.can_resume:
        return f"foretune runs resume {record.run_id}"
    return (
        f"foretune runs why {record.run_id} --out next.toml" if record.patch else f"foretune runs show {record.run_id}"
    )


def _write(run_dir: Path, out: Path, record: PostMortemRecord) -> Path:
    """The run's job with the patch over it, its relative paths meaning the same from where it is written."""
    from foretune.config import read_job
    from foretune.config.settings import moved_paths, settings_of
    from foretune.diagnose import apply_patch
    from foretune.records.base import write_atomically
    from foretune.records.run import JOB_FILE, ResolvedRecord

    if out.exists():
        raise ConfigError(f"{out} exists already", fix="--out ANOTHER.toml")
    if not record.patch:
        raise ConfigError("no single setting would mend this", fix=record.fixes[0] if record.fixes else "")
    resolved = ResolvedRecord.read(run_dir)
    mended = settings_of(resolved.job) | record.patch
    wanted = moved_paths(mended, Path(resolved.folder), out.parent)
    written = settings_of(read_job(run_dir / JOB_FILE).model_dump(mode="json"))
    changed = {name: value for name, value in wanted.items() if value != written[name]}
    changed["parent"] = run_dir.name
    comment = f"# From run {run_dir.name}, changed against: {record.title}\n"
    write_atomically(out, comment + apply_patch((run_dir / JOB_FILE).read_text(encoding="utf-8"), changed))
    return out
