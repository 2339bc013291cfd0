"""Collect the data of a job: read its files, split them, store the version, leave `dataset.json`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from foretune.collect.hub import collect_hub, parse_hub_name
from foretune.collect.sources import file_time, licence_warnings, read_card
from foretune.config.job import DataConfig, JobConfig
from foretune.data.files import DataFile, find_files, split_of
from foretune.data.formats import ReadData, read_files
from foretune.data.labels import labels_of
from foretune.data.split import Splits, split_samples
from foretune.data.store import DatasetStore
from foretune.errors import ConfigError
from foretune.records.dataset import DatasetRecord, DatasetSource

__all__ = ["SOURCES_DIR", "collect"]

SOURCES_DIR = ".sources"  # below the runs folder: what was fetched from elsewhere
HUB = "hf:"

Files = dict[str, list[DataFile]]  # train, validation, test


class _Read(NamedTuple):
    """What was read for each split; None where no file gives that split."""

    train: ReadData
    validation: ReadData | None
    test: ReadData | None

    @property
    def present(self) -> list[ReadData]:
        """The parts that were read."""
        return [part for part in self if part is not None]


def collect(job: JobConfig, *, folder: Path, runs_dir: Path, run_dir: Path) -> DatasetRecord:
    """Read, split and store the data of a job; write `dataset.json` into `run_dir`.

    Paths of the job are relative to `folder`. Files of a folder that name their split (`train`, `dev`, `test`) keep
    it; where there is no validation file, validation is taken from the training rows, never from test. A path
    `hf:owner/name[:config][@revision]` is fetched from the Hugging Face hub first. Licence and share policy come from
    the `source.json` beside a file; a licence that is not known is a warning. Raises ConfigError, NotFound,
    MissingDependency, ServeError (the hub), and DataError with every fault of every file.
    """
    warnings: list[str] = []
    files = _files(job.data, folder, runs_dir, warnings)
    read = _read(job, files)
    warnings += [warning for part in read.present for warning in part.warnings]
    task = read.train.task
    splits = _split(job, read, stratify=task == "classify")
    store = DatasetStore(runs_dir)
    version = store.save(splits)
    everything = [sample for samples in splits.as_dict().values() for sample in samples]
    labels = labels_of(everything) if task == "classify" else ()
    unseen = sorted(set(labels) - {sample.target for sample in splits.train})
    if unseen:
        warnings.append(f"classes that training never sees: {', '.join(map(repr, unseen[:5]))}")
    sources = tuple(_sources(read.present, folder))
    record = DatasetRecord(
        version=version,
        task=task,
        sources=sources,
        splits=store.infos(version),
        labels=labels,
        num_clusters=splits.num_clusters,
        seed=job.seed,
        warnings=(*warnings, *splits.warnings, *licence_warnings({s.name or s.path: s.licence for s in sources})),
    )
    record.write(run_dir)
    return record


def _files(data: DataConfig, folder: Path, runs_dir: Path, warnings: list[str]) -> Files:
    """The files of each split: by the names in a folder, then by `validation_path` and `test_path`."""
    if not data.path:
        raise ConfigError("data.path is not set", fix='add path = "data.jsonl" under [data] in the job file')
    main = _fetched(data.path, runs_dir) if data.path.startswith(HUB) else folder / data.path
    files: Files = {"train": find_files(main), "validation": [], "test": []}
    if main.is_dir():
        files = _by_name(files["train"], warnings)
    for name, path in (("validation", data.validation_path), ("test", data.test_path)):
        if path:
            files[name] = find_files(folder / path)
    return files


def _fetched(path: str, runs_dir: Path) -> Path:
    """The folder with the files of a hub data set, fetched unless they are there."""
    name = parse_hub_name(path)
    slug = re.sub(r"[^\w.-]+", "--", path.removeprefix(HUB))
    return collect_hub(name, runs_dir / SOURCES_DIR / slug).folder


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


def _read(job: JobConfig, files: Files) -> _Read:
    data = job.data
    task = "classify" if job.train.method == "classify" and data.task == "auto" else data.task

    def read(part: Sequence[DataFile], task: str, max_rows: int = 0) -> ReadData:
        return read_files(
            part,
            task=task,
            system=data.system,
            input_field=data.input_field,
            target_field=data.target_field,
            group_field=data.group_field,
            max_rows=max_rows,
        )

    train = read(files["train"], task, data.max_rows)
    others = [read(files[name], train.task) if files[name] else None for name in ("validation", "test")]
    return _Read(train, *others)


def _split(job: JobConfig, read: _Read, *, stratify: bool) -> Splits:
    return split_samples(
        read.train.samples,
        validation_fraction=job.data.validation_fraction,
        test_fraction=job.data.test_fraction,
        seed=job.seed,
        validation=read.validation.samples if read.validation else (),
        test=read.test.samples if read.test else (),
        stratify=stratify,
    )


def _sources(parts: Iterable[ReadData], folder: Path) -> Iterable[DatasetSource]:
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
