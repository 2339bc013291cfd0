"""What changed between two data set versions: rows added, removed, rewritten, or moved to another split."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import unified_diff
from typing import NamedTuple

from foretune.data.samples import Sample, sample_hash
from foretune.data.split import SPLITS
from foretune.data.store import DatasetStore

__all__ = ["Change", "DatasetDiff", "SplitCounts", "diff_splits", "diff_versions"]


class Change(NamedTuple):
    """One row that differs; `kind` is added, removed, changed or moved, and the splits are "" where it is not."""

    kind: str
    id: str
    old_split: str
    new_split: str
    old: Sample | None
    new: Sample | None

    @property
    def text(self) -> str:
        """What changed inside the row, as the lines of a unified diff; the first line of the input otherwise."""
        if self.kind != "changed" or self.old is None or self.new is None:
            row = self.new or self.old
            return (row.input_text.strip().splitlines() or [""])[0] if row else ""
        lines = unified_diff(_lines(self.old), _lines(self.new), lineterm="", n=0)
        return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


class SplitCounts(NamedTuple):
    """Rows of one split before and after."""

    before: int
    after: int


class DatasetDiff(NamedTuple):
    """All changes, in the order of ids, with the sizes of the splits."""

    old: str
    new: str
    splits: dict[str, SplitCounts]
    changes: tuple[Change, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were added, removed, changed and moved."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in ("added", "removed", "changed", "moved")}

    @property
    def summary(self) -> str:
        """One line, such as "+12 -3 ~4 moved 0: train 990 -> 999"."""
        counts = self.counts
        sizes = ", ".join(f"{n} {s.before:,} -> {s.after:,}" for n, s in self.splits.items() if s.before != s.after)
        head = f"+{counts['added']} -{counts['removed']} ~{counts['changed']} moved {counts['moved']}"
        return f"{head}: {sizes}" if sizes else head


def diff_versions(store: DatasetStore, old: str, new: str) -> DatasetDiff:
    """The difference of two stored versions. Raises NotFound and DataError as the store does."""
    before, after = ({name: store.load(version, name) for name in SPLITS} for version in (old, new))
    return diff_splits(before, after, old=old, new=new)


def diff_splits(
    before: Mapping[str, Sequence[Sample]], after: Mapping[str, Sequence[Sample]], *, old: str = "", new: str = ""
) -> DatasetDiff:
    """The difference of two sets of splits.

    Rows that say the same are matched first, whatever their ids (copies one by one); what is left is matched by id as
    changed. So the difference of a version with itself, shuffled or renamed, is empty.
    """
    gone, come = _placed(before), _placed(after)
    changes = list(_same(gone, come))
    changes += _by_id(gone, come)
    for kind, rest in (("removed", gone), ("added", come)):
        for rows in rest.values():
            changes += [_lonely(kind, split, row) for split, row in rows]
    names = dict.fromkeys([*before, *after])
    counts = {name: SplitCounts(len(before.get(name, ())), len(after.get(name, ()))) for name in names}
    return DatasetDiff(old, new, counts, tuple(sorted(changes, key=lambda change: (change.id, change.kind))))


Placed = dict[str, list[tuple[str, Sample]]]


def _placed(splits: Mapping[str, Sequence[Sample]]) -> Placed:
    """Rows with their split, by content."""
    found: Placed = defaultdict(list)
    for name, samples in splits.items():
        for sample in samples:
            found[sample_hash(sample)].append((name, sample))
    return found


def _same(gone: Placed, come: Placed) -> Iterable[Change]:
    """Takes out rows that say the same on both sides; those in another split have moved."""
    for key in [key for key in gone if key in come]:
        old, new = gone.pop(key), come.pop(key)
        for name in {split for split, _ in old}:
            for _ in range(min(_count(old, name), _count(new, name))):
                _take(old, name)
                _take(new, name)
        num = min(len(old), len(new))
        yield from (
            Change("moved", b.id, from_split, to_split, a, b)
            for (from_split, a), (to_split, b) in zip(old[:num], new[:num], strict=True)
        )
        if old[num:]:
            gone[key] = old[num:]
        if new[num:]:
            come[key] = new[num:]


def _count(rows: list[tuple[str, Sample]], split: str) -> int:
    return sum(name == split for name, _ in rows)


def _take(rows: list[tuple[str, Sample]], split: str) -> None:
    rows.pop(next(number for number, (name, _) in enumerate(rows) if name == split))


def _by_id(gone: Placed, come: Placed) -> list[Change]:
    """Takes out rows of one id that say something else now."""
    old_ids = {row.id: (key, split, row) for key, rows in gone.items() for split, row in rows}
    changes = []
    for key, rows in list(come.items()):
        left = []
        for split, row in rows:
            old_key, old_split, old = old_ids.pop(row.id, ("", "", None))
            if old is None:
                left.append((split, row))
                continue
            gone[old_key].remove((old_split, old))
            changes.append(Change("changed", row.id, old_split, split, old, row))
        come[key] = left
    return changes


def _lonely(kind: str, split: str, row: Sample) -> Change:
    if kind == "removed":
        return Change(kind, row.id, split, "", row, None)
    return Change(kind, row.id, "", split, None, row)


def _lines(sample: Sample) -> list[str]:
    if sample.text:
        return sample.text.splitlines()
    return [f"{m.role}: {line}" for m in sample.messages for line in (m.content.splitlines() or [""])]
