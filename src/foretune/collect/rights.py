"""Under which licence each row of a data set stands: by file, by the row's own provenance, by subset of a mixture."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from foretune.collect.collect import sources_of
from foretune.data.formats import read_samples
from foretune.data.known import find_known, subset_licence
from foretune.data.provenance import provenance_of
from foretune.data.samples import Sample
from foretune.data.store import DatasetStore
from foretune.records.dataset import DatasetRecord, DatasetSource
from foretune.records.run import find_run

__all__ = ["Rights", "rights_of", "rights_of_path", "rights_of_run"]


class Rights(NamedTuple):
    """How many rows come from one source (or one subset of a mixture) under one licence."""

    source: str
    licence: str
    num_rows: int


def rights_of_path(path: Path) -> list[Rights]:
    """The rights of the rows of a file or folder. Raises NotFound, DataError."""
    data = read_samples(path, task="any")
    return rights_of(data.samples, tuple(sources_of([data], Path())))


def rights_of_run(runs_dir: Path, run: str) -> list[Rights]:
    """The rights of the rows that a run was given. Raises NotFound, DataError."""
    record = DatasetRecord.read(find_run(runs_dir, run))
    store = DatasetStore(runs_dir)
    samples = [sample for name in record.splits for sample in store.load(record.version, name)]
    return rights_of(samples, record.sources)


def rights_of(samples: Iterable[Sample], sources: Sequence[DatasetSource]) -> list[Rights]:
    """Rows by source and licence, most rows first; of a known mixture each subset stands by itself."""
    counts = Counter(_right(sample, sources) for sample in samples)
    return [Rights(source, licence, count) for (source, licence), count in counts.most_common()]


def _right(sample: Sample, sources: Sequence[DatasetSource]) -> tuple[str, str]:
    found = provenance_of(sample, sources)
    known = find_known(found.source)
    if known is None or not known.subset_field or known.subset_field not in sample.meta:
        return found.source, found.licence
    subset = str(sample.meta[known.subset_field])
    return f"{found.source} / {subset}", subset_licence(known, sample.meta)
