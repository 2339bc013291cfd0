"""Read samples from files of any known format, and report every fault of a file at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foretune.data.faults import RejectedRows
from foretune.data.files import DataFile, file_hash, find_files
from foretune.data.samples import Sample
from foretune.data.stream import FieldNames, FileStream, raise_faults
from foretune.errors import DataError

__all__ = ["ReadData", "SourceFile", "read_files", "read_samples", "task_of"]

MAX_CLASSES = 100
MIN_PER_CLASS = 5
MAX_LABEL_CHARS = 40
SHOWN_PLACES = 5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read."""

    path: Path
    sha256: str
    format: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class ReadData:
    """Samples in the order of the files; `format` says what was recognised, `task` is chat, classify or text.

    `num_rows` counts all rows read, also those left out (each named in `warnings`).
    """

    samples: list[Sample]
    format: str
    num_rows: int
    warnings: tuple[str, ...]
    task: str
    sources: tuple[SourceFile, ...]


def read_samples(
    path: str | Path,
    *,
    task: str = "auto",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    max_rows: int = 0,
    rejected: RejectedRows | None = None,
) -> ReadData:
    """Samples of a file, or of every data file in a folder.

    Formats: OpenAI messages (tools, tool calls and weights too), prompt/completion and its like, Alpaca, ShareGPT,
    Vertex contents, text with a label, raw text, and with `task="preference"` pairs of a better and a worse answer or
    KTO; as JSONL, JSON, CSV, TSV, Parquet, plain text, or TweetEval's `*_text.txt` with `*_labels.txt`; the text
    formats also as .gz, .bz2, .xz and .zst. `system` is put before samples that have no system message.
    Raises NotFound, MissingDependency, or DataError with the faults of every file; with `rejected` faulty rows are put
    aside there instead and counted in `warnings`, and DataError is raised only where no row is good.
    """
    return read_files(
        find_files(Path(path)),
        task=task,
        system=system,
        input_field=input_field,
        target_field=target_field,
        group_field=group_field,
        max_rows=max_rows,
        rejected=rejected,
    )


def read_files(
    files: Sequence[DataFile],
    *,
    task: str = "auto",
    system: str = "",
    input_field: str = "",
    target_field: str = "",
    group_field: str = "",
    max_rows: int = 0,
    rejected: RejectedRows | None = None,
) -> ReadData:
    """As `read_samples`, of files that `find_files` named."""
    fields = FieldNames(task, system, input_field, target_field, group_field)
    samples: list[Sample] = []
    warnings: list[str] = []
    streams: list[FileStream] = []
    for file in files:
        left = max_rows - sum(stream.num_rows for stream in streams) if max_rows else 0
        if max_rows and left <= 0:
            break
        if file.labels is not None and not file.path.exists() and len(files) > 1:
            warnings.append(f"{file.labels.name} is left out: there is no {file.path.name} beside it")
            continue
        stream = FileStream(file, fields, max_rows=left, rejected=rejected)
        samples += stream.samples()
        streams.append(stream)
    what = str(files[0].path if len(files) == 1 else files[0].path.parent)
    raise_faults(streams, what, num_good=len(samples), is_rejecting=rejected is not None)
    warnings += [warning for stream in streams for warning in _told(stream, rejected)]
    sources = [_source(stream) for stream in streams if stream.dialect is not None]
    samples = _with_unique_ids(samples, warnings)
    resolved = _resolved_task(samples, sources, task)
    shown = ", ".join(dict.fromkeys(source.format for source in sources))
    return ReadData(samples, shown, sum(s.num_rows for s in sources), tuple(warnings), resolved, tuple(sources))


def _source(stream: FileStream) -> SourceFile:
    return SourceFile(stream.file.path, file_hash(stream.file.path), stream.format, stream.num_rows)


def _told(stream: FileStream, rejected: RejectedRows | None) -> list[str]:
    """What the user is told about one file."""
    if rejected is None or not stream.faults.count:
        return stream.warnings
    noun = "fault" if stream.faults.count == 1 else "faults"
    aside = f"{stream.file.path.name}: {stream.faults.count} {noun}; the rows are put aside in {rejected.shown}"
    return [aside, *stream.warnings]


def _with_unique_ids(samples: list[Sample], warnings: list[str]) -> list[Sample]:
    counts = Counter(sample.id for sample in samples)
    repeated = [name for name, count in counts.items() if count > 1]
    if not repeated:
        return samples
    seen: Counter[str] = Counter()
    result = []
    for sample in samples:
        seen[sample.id] += 1
        number = seen[sample.id]
        result.append(sample if number == 1 else replace(sample, id=f"{sample.id}#{number}"))
    num_extra = sum(counts[name] - 1 for name in repeated)
    shown = ", ".join(map(repr, repeated[:SHOWN_PLACES]))
    warnings.append(f"{num_extra} rows repeat an id ({shown}); they got new ones: #2, #3, ...")
    return _with_unique_ids(result, []) if len({s.id for s in result}) < len(result) else result


def _resolved_task(samples: Sequence[Sample], sources: Sequence[SourceFile], task: str) -> str:
    num_text = sum(sample.is_text for sample in samples)
    if 0 < num_text < len(samples):
        formats = ", ".join(f"{source.path.name}: {source.format}" for source in sources)
        raise DataError(f"conversations and raw text together: {formats}", fix="put them into two folders and jobs")
    if num_text:
        return "text"
    if task not in ("auto", "any"):
        return task
    if samples and all(sample.is_preference for sample in samples):
        return "preference"
    is_labelled = all("labelled text" in source.format for source in sources)
    return "classify" if is_labelled or task_of(samples) == "classify" else "chat"


def task_of(samples: Sequence[Sample]) -> str:
    """chat, classify or text, told from the samples: classes are few, short, on one line, and repeat."""
    if samples and all(sample.is_text for sample in samples):
        return "text"
    counts = Counter(sample.target for sample in samples)
    is_few = 2 <= len(counts) <= MAX_CLASSES and len(samples) >= MIN_PER_CLASS * len(counts)
    is_short = all(len(t) <= MAX_LABEL_CHARS and "\n" not in t and not t.startswith(("{", "[")) for t in counts)
    is_single = all(sum(m.role == "assistant" for m in sample.messages) == 1 for sample in samples)
    return "classify" if is_few and is_short and is_single else "chat"
