"""Fuzz the reader with atheris: any bytes under any file name end in samples or in one of our errors."""

# SPDX-License-Identifier: Apache-2.0
#
# pip install atheris; PYTHONPATH=src python tests/fuzz_atheris.py -max_total_time=60
#
# Not part of the test run (the name does not begin with test_). Hypothesis does the same in unit/data/test_fuzz.py,
# without atheris' search for new branches.
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["foretune", "json", "csv"]):
    from foretune.audit.clicks import read_clicks
    from foretune.collect.production import read_production
    from foretune.data.faults import RejectedRows
    from foretune.data.formats import read_samples
    from foretune.data.samples import sample_hash
    from foretune.errors import ForetuneError

KINDS = ("jsonl", "json", "csv", "tsv", "txt", "jsonl.gz", "json.bz2", "csv.xz")
TASKS = ("auto", "any", "text", "preference", "classify")
FOLDER = Path(tempfile.mkdtemp())


def check_others(path: Path) -> None:
    """Read the same bytes as production queries and as clicks."""
    for read in (read_production, lambda place: read_clicks(place, [])):
        try:
            read(path)
        except ForetuneError as error:
            assert error.fix, error


def check(data: bytes) -> None:
    """Read `data` as a file whose first bytes choose its kind, its task, and what happens to bad rows."""
    source = atheris.FuzzedDataProvider(data)
    kind, task = KINDS[source.ConsumeIntInRange(0, len(KINDS) - 1)], TASKS[source.ConsumeIntInRange(0, len(TASKS) - 1)]
    is_rejecting = source.ConsumeBool()
    path = FOLDER / f"a.{kind}"
    path.write_bytes(source.ConsumeBytes(len(data)))
    with RejectedRows(FOLDER / "rejected.jsonl") as rejected:
        try:
            found = read_samples(path, task=task, rejected=rejected if is_rejecting else None)
        except ForetuneError as error:
            assert error.fix, error
        else:
            assert all(sample_hash(sample) for sample in found.samples)
    check_others(path)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
