"""Cleaning as people read it: what each step of a recipe did to how many rows, and what differs between versions."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from foretune.audit.checks.pii import redacted
from foretune.data.clean.clean import CleanRecord, StepLog
from foretune.data.diff import Change, DatasetDiff
from foretune.data.samples import Sample
from foretune.ui.answers import differing
from foretune.ui.data_charts import size_bar
from foretune.ui.summary import Headline
from foretune.ui.words import plural

__all__ = ["CleanView", "DiffView", "clean_headline", "clean_view", "diff_headline", "diff_view"]

MOST_TEXT = 420  # characters of a row that are shown
NUM_EXAMPLES, MOST_CHANGES = 3, 40  # rows shown of a step, and of each kind of change
MOST_COMPARED, BEFORE_CHANGE = 3_000, 120  # characters compared, and shown before the first difference
MOST_VALUE = 80  # characters of a parameter that are shown
KINDS = {"changed": "Changed", "removed": "Left out", "added": "Added", "moved": "Moved to another split"}


@dataclass(frozen=True)
class ChangedRow:
    """One row that differs; of a changed one `before` and `after` mark the words that do."""

    id: str
    where: str
    before: tuple[tuple[str, bool], ...]
    after: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class StepView:
    """One step on one split."""

    number: int
    do: str
    params: str
    why: str
    split: str
    rows: str
    counts: tuple[tuple[str, str], ...]  # what, how many
    bar: Markup
    examples: tuple[ChangedRow, ...]


@dataclass(frozen=True)
class CleanView:
    """All that the page of a cleaned version shows."""

    version: str
    parents: tuple[str, ...]
    recipe_hash: str
    seed: int
    steps: tuple[StepView, ...]


def clean_headline(record: CleanRecord) -> Headline:
    """What the recipe did in all, as one sentence."""
    dropped, changed, added = (
        sum(len(getattr(e, name)) for e in record.log) for name in ("dropped", "changed", "added")
    )
    before, after = (sum(sizes.values()) for sizes in _sizes(record.log))
    facts = (
        f"{plural(before, 'row')} before, {after:,} after, in the splits it worked on",
        f"Recipe {record.recipe_hash}, seed {record.recipe.seed}",
    )
    parts = (
        (f"{plural(dropped, 'row')} left out", True),
        (f", {changed:,} changed, {added:,} added by {plural(len(record.recipe.steps), 'step')}.", False),
    )
    reason = f"Version {record.version} of {', '.join(record.parents)}; the old version stays as it was."
    return Headline("open", "New version", parts, reason, facts)


def _sizes(log: Sequence[StepLog]) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of each split before its first step and after its last one."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for entry in log:
        before.setdefault(entry.split, entry.num_before)
        after[entry.split] = entry.num_after
    return before, after


def clean_view(
    record: CleanRecord, before: Mapping[str, Sample] | None = None, after: Mapping[str, Sample] | None = None
) -> CleanView:
    """The view of a recipe's run; `before` and `after` are rows by id of the two versions, for examples."""
    rows = before or {}, after or {}
    return CleanView(
        version=record.version,
        parents=record.parents,
        recipe_hash=record.recipe_hash,
        seed=record.recipe.seed,
        steps=tuple(_step(number, entry, *rows) for number, entry in enumerate(record.log, start=1)),
    )


def _step(number: int, entry: StepLog, before: Mapping[str, Sample], after: Mapping[str, Sample]) -> StepView:
    counts = [
        (name, len(ids))
        for name, ids in (("left out", entry.dropped), ("changed", entry.changed), ("added", entry.added))
    ]
    touched = sum(count for _, count in counts)
    label = f"{entry.do}: {plural(touched, 'row')} of {entry.num_before:,}"
    return StepView(
        number=number,
        do=entry.do,
        params=", ".join(f"{name} = {_value(value)}" for name, value in entry.params.items()),
        why=entry.why,
        split=entry.split,
        rows=f"{entry.num_before:,} → {entry.num_after:,}",
        counts=tuple((name, f"{count:,}") for name, count in counts if count) or (("nothing to do", ""),),
        bar=size_bar(touched, max(entry.num_before, touched, 1), "fill lost" if entry.dropped else "fill tuned", label),
        examples=tuple(_examples(entry, before, after)),
    )


def _value(value: Any) -> str:
    """A parameter as text; a long list as its length."""
    if isinstance(value, (list, tuple)) and len(value) > 3:
        return f"{len(value):,} values"
    text = str(value)
    return text if len(text) <= MOST_VALUE else f"{text[:MOST_VALUE]} …"


def _examples(entry: StepLog, before: Mapping[str, Sample], after: Mapping[str, Sample]) -> Iterable[ChangedRow]:
    ids = [*entry.changed[:NUM_EXAMPLES], *entry.dropped[:NUM_EXAMPLES], *entry.added[:NUM_EXAMPLES]]
    dropped = set(entry.dropped)
    for name in ids:
        old, new = before.get(name), None if name in dropped else after.get(name)
        if (old or new) and not (old and new and _text(old) == _text(new)):
            yield _changed(name, _place(old or new), old, new)


def _place(row: Sample | None) -> str:
    return row.place if row else ""


def _text(row: Sample) -> str:
    """A row as one text: who says what, or the raw text."""
    return row.text or "\n".join(f"{message.role}: {message.content}" for message in row.messages)


def _changed(name: str, where: str, old: Sample | None, new: Sample | None) -> ChangedRow:
    texts = [redacted(_text(row)).text[:MOST_COMPARED] if row else "" for row in (old, new)]
    if all(texts):
        sides = [list(differing(texts[0], texts[1])), list(differing(texts[1], texts[0]))]
    else:
        sides = [[(text, False)] if text else [] for text in texts]
    return ChangedRow(name, where, *(tuple(_window(pieces)) for pieces in sides))


def _window(pieces: Sequence[tuple[str, bool]]) -> Iterable[tuple[str, bool]]:
    """At most 420 characters around the first difference; blanks that differ become visible."""
    ahead = 0
    for text, differs in pieces:
        if differs:
            break
        ahead += len(text)
    total = sum(len(text) for text, _ in pieces)
    skipped = ahead - BEFORE_CHANGE if total > ahead > MOST_TEXT // 2 else 0
    if skipped:
        yield "… ", False
    left, place = MOST_TEXT, 0
    for text, differs in pieces:
        shown = text[max(0, skipped - place) :][:left]
        place += len(text)
        left -= len(shown)
        if shown or (differs and place >= skipped):
            yield (_visible(shown) if differs else shown), differs
        if left <= 0:
            break
    if total - skipped > MOST_TEXT:
        yield f" … ({total - skipped - MOST_TEXT:,} more characters)", False


def _visible(text: str) -> str:
    """Blanks as signs, where there is nothing else."""
    return text if text.strip() else text.replace(" ", "␣").replace("\t", "⇥").replace("\n", "⏎\n")


# --- differences ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChangeGroup:
    """All changes of one kind: how many, and those that are shown."""

    title: str
    count: str
    rows: tuple[ChangedRow, ...]
    rest: str


@dataclass(frozen=True)
class DiffView:
    """All that the page of a difference shows."""

    old: str
    new: str
    splits: tuple[tuple[str, str, str, str], ...]  # name, before, after, change
    groups: tuple[ChangeGroup, ...]


def diff_headline(diff: DatasetDiff) -> Headline:
    """What differs in all, as one sentence."""
    counts = diff.counts
    if not any(counts.values()):
        return Headline("better", "Equal", (("The two versions hold the same rows.", False),), "", ())
    words = ", ".join(f"{counts[kind]:,} {name.lower()}" for kind, name in KINDS.items())
    facts = (f"From {diff.old or 'the first'}", f"to {diff.new or 'the second'}")
    return Headline(
        "open", "Difference", ((plural(sum(counts.values()), "row"), True), (f" differ: {words}.", False)), "", facts
    )


def diff_view(diff: DatasetDiff) -> DiffView:
    """The view of a difference: sizes of the splits, and the first rows of each kind of change."""
    splits = tuple(
        (name, f"{size.before:,}", f"{size.after:,}", _change(size.after - size.before))
        for name, size in diff.splits.items()
    )
    groups = [_group(kind, title, [c for c in diff.changes if c.kind == kind]) for kind, title in KINDS.items()]
    return DiffView(diff.old, diff.new, splits, tuple(group for group in groups if group.rows))


def _change(number: int) -> str:
    return f"{number:+,}".replace("-", "−") if number else "0"


def _group(kind: str, title: str, changes: Sequence[Change]) -> ChangeGroup:
    left = len(changes) - MOST_CHANGES
    rows = tuple(_changed(c.id, _where(c), c.old, c.new if kind != "moved" else None) for c in changes[:MOST_CHANGES])
    return ChangeGroup(
        title, f"{len(changes):,}", rows, f"{plural(left, 'more row')}: foretune data diff --json" if left > 0 else ""
    )


def _where(change: Change) -> str:
    """The split, or the two splits that a row moved between, and its place."""
    splits = " → ".join(dict.fromkeys(name for name in (change.old_split, change.new_split) if name))
    return ", ".join(part for part in (splits, _place(change.new or change.old)) if part)
