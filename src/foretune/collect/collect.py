"""Collect the data of a job: read its files, split them, store the version, leave `dataset.json`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from foretune.collect.hub import collect_hub, parse_hub_name
from foretune.collect.sources import file_time, licence_warnings, read_card
from foretune.config.job import PREFERENCE_METHODS, DataConfig, JobConfig, Method, Task
from foretune.data.faults import REJECTED_FILE, RejectedRows
from foretune.data.files import DataFile, find_files, split_of
from foretune.data.formats import ReadData, read_files
from foretune.data.labels import labels_of
from foretune.data.mix import mixed
from foretune.data.noisy import write_noisy
from foretune.data.split import Splits, floored_share, split_samples, without_copies
from foretune.data.store import DatasetStore
from foretune.data.targets import target_numbers
from foretune.data.time_split import split_by_time
from foretune.errors import ConfigError, DataError
from foretune.records.dataset import DatasetRecord, DatasetSource

__all__ = ["SOURCES_DIR", "collect", "local_path", "sources_of"]

SOURCES_DIR = ".sources"  # below the runs folder: what was fetched from elsewhere
HUB = "hf:"
AUTO = "auto"  # data.time_field: look for the field with the dates

Files = dict[str, list[DataFile]]  # train, validation, test


class _Read(NamedTuple):
    """What was read for each split, and the general data to mix in; None where no file gives it."""

    train: ReadData
    validation: ReadData | None
    test: ReadData | None
    general: ReadData | None

    @property
    def present(self) -> list[ReadData]:
        """The parts that were read."""
        return [part for part in self if part is not None]


def collect(
    job: JobConfig, *, folder: Path, runs_dir: Path, run_dir: Path, sources_dir: Path | None = None
) -> DatasetRecord:
    """Read, split and store the data of a job; write `dataset.json` into `run_dir`.

    Paths of the job are relative to `folder`. Files of a folder that name their split (`train`, `dev`, `test`) keep
    it; where there is no validation file, validation is taken from the training rows, never from test. A path
    `hf:owner/name[:config][@revision]` is fetched from the Hugging Face hub first, into `sources_dir` (default: below
    `runs_dir`). Licence and share policy come from the `source.json` beside a file; a licence that is not known is a
    warning. `data.advanced`: with `on_fault = "reject"` faulty rows go into `rejected.jsonl` of `run_dir`, with
    `noisy_test` a noisy twin of the test split into `noisy_test.jsonl`. Raises ConfigError, NotFound,
    MissingDependency, ServeError (the hub), GateRefused (a licence of general data), and DataError with every fault of
    every file.
    """
    warnings: list[str] = []
    home = sources_dir or runs_dir / SOURCES_DIR
    files = _files(job.data, folder, home, warnings)
    general = _general_files(job.data, job.train.method, folder, home)
    with RejectedRows(run_dir / REJECTED_FILE, shown=f"{REJECTED_FILE} of the run") as rejected:
        read = _read(job, files, general, rejected if job.data.advanced.on_fault == "reject" else None)
    warnings += [warning for part in read.present for warning in part.warnings]
    task = read.train.task
    if task == "preference" and job.train.method not in PREFERENCE_METHODS:
        read = _without_bad_answers(read, warnings, job.train.method)
    splits = _split(job, read, stratify=task == "classify")
    if read.general is not None:
        splits = _with_general(job, splits, read.general, tuple(sources_of([read.general], folder)), warnings)
    if job.train.method == "regress":
        target_numbers([sample for samples in splits.as_dict().values() for sample in samples])
    store = DatasetStore(runs_dir)
    version = store.save(splits)
    if job.data.advanced.noisy_test:
        write_noisy(run_dir, store.load(version, "test"), rate=job.data.advanced.noisy_test, seed=job.seed)
    everything = [sample for samples in splits.as_dict().values() for sample in samples]
    labels = labels_of(everything) if task == "classify" else ()
    unseen = sorted(set(labels) - {sample.target for sample in splits.train})
    if unseen:
        warnings.append(f"classes that training never sees: {', '.join(map(repr, unseen[:5]))}")
    sources = tuple(sources_of(read.present, folder))
    record = DatasetRecord(
        version=version,
        task=task,
        sources=sources,
        splits=store.infos(version),
        labels=labels,
        num_clusters=splits.num_clusters,
        seed=job.seed,
        num_rejected=rejected.num_rows,
        warnings=(*warnings, *splits.warnings, *licence_warnings({s.name or s.path: s.licence for s in sources})),
    )
    record.write(run_dir)
    return record


def _files(data: DataConfig, folder: Path, home: Path, warnings: list[str]) -> Files:
    """The files of each split: by the names in a folder, then by `validation_path` and `test_path`."""
    if not data.path:
        raise ConfigError("data.path is not set", fix='add path = "data.jsonl" under [data] in the job file')
    main = local_path(data.path, folder, home)
    files: Files = {"train": find_files(main), "validation": [], "test": []}
    if main.is_dir():
        files = _by_name(files["train"], warnings)
    for name, path in (("validation", data.validation_path), ("test", data.test_path)):
        if path:
            files[name] = find_files(folder / path)
    return files


def _general_files(data: DataConfig, method: str, folder: Path, home: Path) -> list[DataFile]:
    """The files of general data; of a folder those for training."""
    if not data.mix_path:
        return []
    if method in ("classify", "regress"):
        what = "data.mix_path mixes general conversations in, and a head on the model answers with a class or a number"
        raise ConfigError(what, fix='leave data.mix_path out, or train.method = "lora"')
    main = local_path(data.mix_path, folder, home)
    files = find_files(main)
    return _by_name(files, [])["train"] if main.is_dir() else files


def local_path(path: str, folder: Path, home: Path) -> Path:
    """Where the files of a path lie; those of a hub data set are fetched below `home` unless they are there.

    Other paths are relative to `folder`. Raises NotFound, GateRefused, ServeError.
    """
    if not path.startswith(HUB):
        return folder / path
    name = parse_hub_name(path)
    slug = re.sub(r"[^\w.-]+", "--", path.removeprefix(HUB))
    return collect_hub(name, home / slug).folder


def _by_name(files: Sequence[DataFile], warnings: list[str]) -> Files:
    """Files of a folder by the split that their names declare; files that declare none are for training."""
    present = [file for file in files if file.path.exists()]
    for file in files:
        if file not in present and present and file.labels is not None:
            warnings.append(f"{file.labels.name} is left out: there is no {file.path.name} beside it")
    found: Files = {"train": [], "validation": [], "test": []}
    for file in present or files:
        found[split_of(file.path) or "train"].append(file)
    if not found["train"]:
        source = "validation" if found["validation"] else "test"
        names = ", ".join(file.path.name for file in found[source])
        warnings.append(f"no training file in the folder: {names} is split into train and validation instead")
        found["train"], found[source] = found[source], []
    return found


def _task_of(method: Method) -> Task:
    """What samples must be for a method; auto where it does not say."""
    if method in PREFERENCE_METHODS:
        return "preference"
    return "classify" if method == "classify" else "auto"


def _read(job: JobConfig, files: Files, general: Sequence[DataFile], rejected: RejectedRows | None) -> _Read:
    data = job.data
    task = _task_of(job.train.method) if data.task == "auto" else data.task

    def read(part: Sequence[DataFile], task: str, max_rows: int = 0) -> ReadData:
        return read_files(
            part,
            task=task,
            system=data.system,
            input_field=data.input_field,
            target_field=data.target_field,
            group_field=data.group_field,
            max_rows=max_rows,
            rejected=rejected,
        )

    train = read(files["train"], task, data.max_rows)
    validation, test = (read(files[name], train.task) if files[name] else None for name in ("validation", "test"))
    # General data have names of their own, and no system message of this job.
    kind = train.task if train.task in ("text", "preference") else "chat"
    mixed_in = read_files(general, task=kind, rejected=rejected) if general else None
    return _Read(train, validation, test, mixed_in)


def _without_bad_answers(read: _Read, warnings: list[str], method: str) -> _Read:
    """What is read without answers that were judged bad: a method that learns answers would learn these too."""
    parts = [part and replace(part, samples=[s for s in part.samples if s.desirable is not False]) for part in read]
    num_bad = sum(len(old.samples) - len(new.samples) for old, new in zip(read, parts, strict=True) if old and new)
    if num_bad:
        warnings.append(f"{num_bad:,} answers that were judged bad are left out: {method} learns whatever it is shown")
    train, *others = parts
    if train is None or not train.samples:
        raise DataError("no answer was judged good, so there is nothing to learn", fix="add rows with label = true")
    return _Read(train, *others)


def _split(job: JobConfig, read: _Read, *, stratify: bool) -> Splits:
    data = job.data
    if data.time_field:
        return _split_by_time(data, read)
    return split_samples(
        read.train.samples,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        seed=job.seed,
        validation=read.validation.samples if read.validation else (),
        test=read.test.samples if read.test else (),
        stratify=stratify,
        fewest_test=data.advanced.fewest_test,
    )


def _split_by_time(data: DataConfig, read: _Read) -> Splits:
    given = [name for name, part in (("validation", read.validation), ("test", read.test)) if part is not None]
    if given:
        what = f"data.time_field splits by time, but the folder has a {given[0]} file already"
        raise ConfigError(what, fix='leave data.time_field out, or name one file: path = "data/rows.jsonl"')
    warnings: list[str] = []
    num, fewest = len(read.train.samples), 0 if data.advanced.validate_until else data.advanced.fewest_test
    splits = split_by_time(
        read.train.samples,
        date_field="" if data.time_field == AUTO else data.time_field,
        train_until=data.advanced.train_until,
        test_from=data.advanced.validate_until,
        validation_fraction=data.validation_fraction,
        test_fraction=floored_share(num, data.test_fraction, data.validation_fraction, fewest, warnings),
    )
    return replace(splits, warnings=(*splits.warnings, *warnings))


def _with_general(
    job: JobConfig, splits: Splits, general: ReadData, sources: Sequence[DatasetSource], warnings: list[str]
) -> Splits:
    """The splits with general rows among the training ones, none of which stands in validation or test."""
    free = without_copies(general.samples, [*splits.validation, *splits.test], [])
    data = job.data.advanced
    mix = mixed(splits.train, free, fraction=data.mix_fraction, use=data.use, sources=sources, seed=job.seed)
    licences = ", ".join(f"{name} {count:,}" for name, count in mix.licences.items())
    warnings += mix.warnings
    warnings.append(f"{mix.num_general:,} general rows are {mix.fraction:.0%} of training ({licences})")
    return replace(splits, train=mix.samples)


def sources_of(parts: Iterable[ReadData], folder: Path) -> Iterator[DatasetSource]:
    """Every file that was read, with what its card says; paths are relative to `folder` where they lie in it."""
    for part in parts:
        for source in part.sources:
            path = source.path.relative_to(folder) if source.path.is_relative_to(folder) else source.path
            card = read_card(source.path)
            yield DatasetSource(
                path=str(path),
                sha256=source.sha256,
                format=source.format,
                num_rows=source.num_rows,
                licence=card.licence,
                kind=card.kind,
                name=card.name,
                url=card.url,
                retrieved_at=card.retrieved_at or file_time(source.path),
                share=card.share,
            )
