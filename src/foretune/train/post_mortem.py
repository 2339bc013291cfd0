"""Why a run ended before its end: from its events, its log and how its process went, with settings that would fit."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import re
import signal
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.backends.local import TRAIN_LOG
from foretune.config.derive import calmer_rate
from foretune.config.read import field_names
from foretune.config.write import toml_value
from foretune.errors import DoesNotFit
from foretune.records.events import read_events
from foretune.records.post_mortem import FailureCause, PostMortemRecord
from foretune.records.run import ResolvedRecord, run_state
from foretune.train.memory_ladder import MemorySettings, what_would_fit

__all__ = ["overlay_toml", "post_mortem", "post_mortem_lines"]

LOG_LINES = 5
FAILED_STATES = ("failed", "interrupted")
# What an interpreter or the system writes last; a class name, or the words of the system itself.
MEMORY_WORDS = re.compile(r"\b(?:MemoryError|OutOfMemoryError|DefaultCPUAllocator|Cannot allocate memory)\b")
DISK_WORDS = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b")
CAUSES: dict[str, FailureCause] = {
    "TrainingDiverged": "diverged",
    "DataError": "data",
    "ScoreError": "data",
    "ConfigError": "config",
    "NotFound": "config",
    "GateRefused": "config",
    "CheckpointError": "damaged_checkpoint",
    "MissingDependency": "missing_package",
}
TITLES: dict[FailureCause, str] = {
    "out_of_memory": "Training ran out of memory",
    "killed": "The process was killed from outside",
    "disk_full": "The disk was full, or could not be written",
    "diverged": "The loss was no longer a number",
    "data": "The data cannot be trained on",
    "config": "The settings cannot be run",
    "locked": "Another process writes this run",
    "interrupted": "The process was interrupted",
    "damaged_checkpoint": "A checkpoint cannot be used",
    "missing_package": "A package is missing",
    "fault": "foretune itself failed",
}
EXPLANATIONS: dict[FailureCause, str] = {
    "out_of_memory": "A step needed more memory than there was. The last checkpoint is whole.",
    "killed": "It ended without a word, as the system does to the largest process when memory runs out (SIGKILL), "
    "or someone ended it. The last checkpoint is whole.",
    "disk_full": "A file could not be written. What was written before is whole.",
    "diverged": "Loss or gradient became infinite or NaN: the steps were too large for this model.",
    "data": "The run was stopped before or at the row that is named.",
    "config": "The run was stopped before the first step.",
    "locked": "Two processes on one run folder would destroy each other's checkpoints.",
    "interrupted": "It was stopped before it could write a checkpoint of the last steps.",
    "damaged_checkpoint": "What is on the disk is not what was written, or belongs to other settings.",
    "missing_package": "Training needs a package that is not installed.",
    "fault": "An error that foretune does not know stopped the process.",
}
RESUMABLE: tuple[FailureCause, ...] = ("out_of_memory", "killed", "disk_full", "locked", "interrupted")


@dataclass(frozen=True)
class _Evidence:
    """All there is to judge by."""

    run_dir: Path
    events: list[dict[str, Any]]
    log_lines: list[str]
    exit_code: int | None
    job: Mapping[str, Any]

    @property
    def failure(self) -> dict[str, Any] | None:
        """The error that the last training process named before it ended."""
        kinds = ("failed", "train_start", "train_end")
        last = next((event for event in reversed(self.events) if event["kind"] in kinds), None)
        return last if last is not None and last["kind"] == "failed" else None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The step events."""
        return [event for event in self.events if event["kind"] == "step"]

    @property
    def started(self) -> dict[str, Any]:
        """The last start of training."""
        return next((event for event in reversed(self.events) if event["kind"] == "train_start"), {})

    @property
    def log_text(self) -> str:
        """The tail of the log."""
        return "\n".join(self.log_lines)


def post_mortem(run_dir: Path, *, exit_code: int | None = None, is_final: bool = False) -> PostMortemRecord | None:
    """Find out why a run failed and write `post_mortem.json`; None where it did not fail.

    `exit_code` is that of the training process where it is known (negative: a signal). `is_final` says that it has
    ended although nothing on the disk does (a process that never got to its first event). Reads records alone.
    """
    if not is_final and run_state(run_dir) not in FAILED_STATES:
        return None
    seen = _evidence(run_dir, exit_code)
    cause, is_certain, why = _cause(seen)
    checkpoint = _last_checkpoint(run_dir)
    patch, fixes = _mending(cause, seen)
    record = PostMortemRecord(
        run_id=run_dir.name,
        cause=cause,
        certainty="certain" if is_certain else "likely",
        title=TITLES[cause],
        explanation=EXPLANATIONS[cause],
        evidence=tuple(why),
        fixes=tuple(fixes),
        patch=patch,
        last_step=int(seen.steps[-1]["step"]) if seen.steps else 0,
        planned_steps=int(seen.started.get("planned_steps", 0)),
        last_checkpoint_step=checkpoint,
        can_resume=cause in RESUMABLE,
    )
    with suppress(DoesNotFit):  # a full disk may be the very cause; whoever asks is told all the same
        record.write(run_dir)
    return record


def _evidence(run_dir: Path, exit_code: int | None) -> _Evidence:
    job = ResolvedRecord.read(run_dir).job if ResolvedRecord.exists(run_dir) else {}
    log = run_dir / TRAIN_LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return _Evidence(run_dir, read_events(run_dir), text.strip().splitlines()[-LOG_LINES:], exit_code, job)


def _last_checkpoint(run_dir: Path) -> int | None:
    steps = [int(path.parent.name.rpartition("-")[2]) for path in run_dir.glob("checkpoints/step-*/state.json")]
    return max(steps, default=None)


# --- the cause ------------------------------------------------------------------------------------------------------


def _cause(seen: _Evidence) -> tuple[FailureCause, bool, list[str]]:
    """The cause, whether it is certain, and what shows it."""
    named = _named_cause(seen)
    if named is not None:
        return named
    tail = [f"{TRAIN_LOG}: {line}" for line in seen.log_lines]
    for words, cause in ((MEMORY_WORDS, "out_of_memory"), (DISK_WORDS, "disk_full")):
        if words.search(seen.log_text):
            return cause, True, tail  # type: ignore[return-value]
    if seen.exit_code is not None and seen.exit_code < 0:
        return _by_signal(-seen.exit_code, tail)
    if seen.exit_code == 130 or "KeyboardInterrupt" in seen.log_text:
        return "interrupted", True, tail or ["exit code 130"]
    if "Traceback (most recent call last)" in seen.log_text or _is_error_line(seen.log_lines):
        return "fault", True, tail
    return "killed", False, [*tail, "the event log ends in the middle of training, without an error"]


def _is_error_line(lines: Sequence[str]) -> bool:
    """Whether the log ends with an exception's own line: `ValueError: ...`."""
    return bool(lines) and re.match(r"[A-Za-z_.]*(?:Error|Exception)\b", lines[-1]) is not None


def _named_cause(seen: _Evidence) -> tuple[FailureCause, bool, list[str]] | None:
    """By the error that the process wrote down itself."""
    if seen.failure is None:
        return _from_log_error(seen)
    name, message = str(seen.failure.get("error")), str(seen.failure.get("message", ""))
    why = [f"{name}: {message}", *_last_losses(seen)]
    if name == "DoesNotFit":
        return ("out_of_memory" if "memory" in message or "peak" in message else "disk_full"), True, why
    if name == "ConfigError" and "is being written by process" in message:
        return "locked", True, why
    return CAUSES.get(name, "fault"), True, why


def _from_log_error(seen: _Evidence) -> tuple[FailureCause, bool, list[str]] | None:
    """A lock is refused before the first event, so that only the log knows."""
    line = next((line for line in reversed(seen.log_lines) if "is being written by process" in line), None)
    return None if line is None else ("locked", True, [f"{TRAIN_LOG}: {line}"])


def _by_signal(number: int, tail: list[str]) -> tuple[FailureCause, bool, list[str]]:
    known = {one.value: one.name for one in signal.Signals}
    why = [f"the process ended by signal {number} ({known.get(number, 'unknown')})", *tail]
    if number == signal.SIGKILL:
        kills = _oom_kills()
        return (
            "killed",
            True,
            [*why, *([f"this container's system has ended {kills} processes for memory"] * bool(kills))],
        )
    return ("interrupted" if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) else "fault"), True, why


def _oom_kills(path: Path = Path("/sys/fs/cgroup/memory.events")) -> int:
    """Processes of this container that the kernel has ended for lack of memory, as cgroup v2 counts them."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    return int(counts.get("oom_kill", 0))


def _last_losses(seen: _Evidence) -> list[str]:
    losses = [event.get("loss") for event in seen.steps[-3:]]
    shown = ", ".join("NaN" if loss is None or not math.isfinite(loss) else f"{loss:.3g}" for loss in losses)
    return [f"the last losses: {shown}"] if losses else []


# --- what mends it --------------------------------------------------------------------------------------------------


def _mending(cause: FailureCause, seen: _Evidence) -> tuple[dict[str, Any], list[str]]:
    """Dotted settings, and commands in words."""
    mend: Callable[[_Evidence], tuple[dict[str, Any], list[str]]] | None = {
        "out_of_memory": _less_memory,
        "killed": _less_memory,
        "disk_full": _less_disk,
        "diverged": _smaller_steps,
    }.get(cause)
    if mend is not None:
        return mend(seen)
    fix = str((seen.failure or {}).get("fix", ""))
    patch = _settings_in(fix) if cause in ("config", "data") else {}
    name = seen.run_dir.name
    usual = {
        "locked": f"foretune runs watch {name}",
        "interrupted": f"foretune runs resume {name}",
        "fault": f"foretune runs resume {name}; if it fails again, report it with train.log",
    }
    return patch, [line for line in (fix, usual.get(cause, "")) if line]


def _settings_in(fix: str) -> dict[str, Any]:
    """The settings that a fix spells out (`train.rank = 16`); {} where it says anything else."""
    try:
        flat = dict(_flat(tomllib.loads(fix)))
    except tomllib.TOMLDecodeError:
        return {}
    return flat if set(flat) <= set(field_names()) else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting(seen: _Evidence, name: str, usual: Any) -> Any:
    value: Any = seen.job
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return usual if value is None else value


def _less_memory(seen: _Evidence) -> tuple[dict[str, Any], list[str]]:
    settings = MemorySettings(
        micro_batch_size=int(_planned(seen, "micro_batch_size", 0))
        or int(_setting(seen, "train.global_batch_size", 16)),
        global_batch_size=int(_setting(seen, "train.global_batch_size", 16)),
        max_seq_len=int(_planned(seen, "max_seq_len", 0)) or int(_setting(seen, "train.max_seq_len", 0)) or 1024,
        method=str(_setting(seen, "train.method", "lora")),
        quantise_base=str(_setting(seen, "train.advanced.quantise_base", "none")),
    )
    name = seen.run_dir.name
    if settings.micro_batch_size > 1:
        size = max(1, settings.micro_batch_size // 4)
        patch: dict[str, Any] = {"train.advanced.micro_batch_size": size}
        said = f"the same training in smaller pieces: {size} instead of {settings.micro_batch_size} samples at once"
    else:
        patch = what_would_fit(settings)
        said = "one sample at once is already the smallest: " + ", ".join(f"{k} = {v}" for k, v in patch.items())
    memory = f"foretune runs resume {name}   # goes on at the last checkpoint, where other programs took the memory"
    return patch, [said, memory]


def _planned(seen: _Evidence, field: str, usual: int) -> Any:
    """What `plan.json` derived, without reading the whole record: the run may come from another version."""
    path = seen.run_dir / "plan.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get(field, usual) if path.is_file() else usual
    except (OSError, ValueError, AttributeError):
        return usual
    return value if isinstance(value, int) else usual


def _less_disk(seen: _Evidence) -> tuple[dict[str, Any], list[str]]:
    name = seen.run_dir.name
    kept = int(_setting(seen, "train.advanced.keep_checkpoints", 3))
    patch = {"train.advanced.keep_checkpoints": 1} if kept > 1 else {}
    return patch, [f"free space, then foretune runs resume {name}", "a run folder on another disk: --runs-dir FOLDER"]


def _smaller_steps(seen: _Evidence) -> tuple[dict[str, Any], list[str]]:
    rates = [float(event["learning_rate"]) for event in seen.steps if event.get("learning_rate")]
    peak = max(rates, default=0.0) or float(_setting(seen, "train.learning_rate", 0.0)) or 2e-4
    calmer = calmer_rate(str(_setting(seen, "train.method", "lora")), peak)
    patch: dict[str, Any] = {"train.learning_rate": calmer}
    if float(_setting(seen, "train.advanced.max_grad_norm", 1.0)) <= 0:
        patch["train.advanced.max_grad_norm"] = 1.0
    return patch, [f"a lower learning rate: {calmer:g} instead of {peak:g}"]


# --- faces ----------------------------------------------------------------------------------------------------------


def overlay_toml(record: PostMortemRecord) -> str:
    """The patch as TOML, to be put over the job file; "" where no setting mends it."""
    tables: dict[str, list[str]] = {}
    for name, value in sorted(record.patch.items()):
        table, _, field = name.rpartition(".")
        tables.setdefault(table, []).append(f"{field} = {toml_value(value)}")
    return "\n".join("\n".join([*([f"[{table}]"] if table else []), *tables[table]]) + "\n" for table in sorted(tables))


def post_mortem_lines(record: PostMortemRecord) -> list[str]:
    """The post-mortem for a terminal, plain."""
    steps = f"{record.lost_steps} step{'' if record.lost_steps == 1 else 's'}"
    lost = f", {steps} to do again" if record.lost_steps else ""
    kept = (
        "no checkpoint" if record.last_checkpoint_step is None else f"checkpoint at step {record.last_checkpoint_step}"
    )
    head = [f"{record.title} ({record.certainty}).", record.explanation]
    if record.planned_steps:
        head.append(f"It came to step {record.last_step} of {record.planned_steps}; {kept}{lost}.")
    lines = [*head, *(f"  {line}" for line in record.evidence)]
    return [*lines, *(f"mend: {fix}" for fix in record.fixes)]
