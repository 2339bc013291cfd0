"""The audit as people read it: what to mend first, rows side by side, lengths, splits, languages and classes."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foretune.data.clean.recipe import MENDS
from foretune.data.neardup import normalised
from foretune.data.samples import Sample
from foretune.data.split import input_key
from foretune.records.audit import AuditRecord, Finding, TokenStats
from foretune.records.dataset import DatasetRecord
from foretune.ui.answers import differing
from foretune.ui.data_charts import length_chart, size_bar
from foretune.ui.portrait import Lengths, Rows, class_counts, language_counts, lengths_of, shown_text
from foretune.ui.summary import Headline
from foretune.ui.words import plural

__all__ = ["AuditView", "FindingView", "ShownRow", "audit_headline", "audit_view"]

ALIKE = ("DATA010", "DATA011", "DATA012", "DATA013", "DATA014", "DATA016")  # findings of two rows each
NUM_PAIRS, NUM_ROWS, MOST_SEARCHED = 3, 3, 200
MOST_TEXT = 260  # characters of a row that are shown
MOST_LANGUAGES, MOST_CLASSES = 6, 24
TONES = {"error": "lost", "warning": "warn", "info": "open"}
HEAD_CHARS = 50


@dataclass(frozen=True)
class ShownRow:
    """One row: where it stands, what is asked and answered; pieces of the answer with whether they differ."""

    place: str
    asked: str
    answered: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class FindingView:
    """One finding with its rank, its effect as text and bar, and rows to look at."""

    rank: int
    finding: Finding
    tone: str
    rows: str
    effect: str
    certainty: str
    bar: Markup
    command: str
    evidence: tuple[str, ...] = ()
    pairs: tuple[tuple[ShownRow, ShownRow], ...] = ()
    examples: tuple[ShownRow, ...] = ()


@dataclass(frozen=True)
class LengthPanel:
    """The lengths of one part of the training rows as a chart with its figures."""

    title: str
    chart: Markup
    note: str


@dataclass(frozen=True)
class Share:
    """A named share of a whole."""

    name: str
    count: str
    share: str
    bar: Markup


@dataclass(frozen=True)
class Card:
    """One figure of the top of the page."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class AuditView:
    """All that the audit part of a page shows."""

    findings: tuple[FindingView, ...]
    cards: tuple[Card, ...]
    lengths: tuple[LengthPanel, ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...]  # name, figures in the order of SPLIT_HEADS
    split_heads: tuple[str, ...]
    languages: tuple[Share, ...]
    languages_of: str
    classes: tuple[Share, ...]
    classes_of: str
    examples: tuple[str, ...]


def audit_headline(audit: AuditRecord) -> Headline:
    """Whether training can start, and what the findings spoil together at most."""
    by = {kind: [f for f in audit.findings if f.severity == kind] for kind in ("error", "warning", "info")}
    facts = (
        plural(audit.num_samples, "sample"),
        f"{plural(len(by['error']), 'error')}, {plural(len(by['warning']), 'warning')}, "
        f"{plural(len(by['info']), 'note')}",
        f"Version {audit.dataset_version[:16]}",
    )
    if by["error"]:
        first = by["error"][0]
        words = plural(len(by["error"]), "error")
        parts: tuple[tuple[str, bool], ...] = (
            ("Not ready to train: ", False),
            (words, True),
            (" must be mended first.", False),
        )
        return Headline("worse", "Errors", parts, f"First: {first.title} ({_rows(first)}).", facts)
    spoilt = sum(finding.effect for finding in by["warning"])
    if by["warning"]:
        parts = (
            ("Ready to train, but ", False),
            (plural(len(by["warning"]), "finding"), True),
            (f" {'is' if len(by['warning']) == 1 else 'are'} worth mending first.", False),
        )
        reason = f"Together they may spoil up to {_percent(min(1.0, spoilt))} of the training rows." if spoilt else ""
        return Headline("inconclusive", "Worth mending", parts, reason, facts)
    parts = (("Ready to train: ", False), ("nothing that must be mended", True), (".", False))
    return Headline("better", "Ready", parts, "", facts)


def audit_view(
    audit: AuditRecord, dataset: DatasetRecord | None, rows: Rows | None, *, max_seq_len: int = 0, run_id: str = ""
) -> AuditView:
    """The view of an audit; without `rows` it shows what the records say and no row beside another.

    `max_seq_len` in tokens draws the line where training cuts, 0 = none; `run_id` names the run in commands.
    """
    splits: Mapping[str, Sequence[Sample]] = rows.splits if rows else {}
    train = splits.get("train", ())
    languages = language_counts(train) if train else {}
    is_classes = dataset is not None and dataset.task == "classify"
    classes = class_counts(train) if is_classes else {}
    return AuditView(
        findings=tuple(_finding_views(audit, rows, run_id)),
        cards=tuple(_cards(audit, dataset, max_seq_len)),
        lengths=tuple(_panels(audit, rows, max_seq_len)),
        splits=tuple(_split_rows(audit, dataset, splits)),
        split_heads=SPLIT_HEADS,
        languages=tuple(_shares(languages, MOST_LANGUAGES, "cannot be told")),
        languages_of=f"{sum(languages.values()):,} training rows, by the answer" if languages else "",
        classes=tuple(_shares(classes, MOST_CLASSES, "")),
        classes_of=f"{sum(classes.values()):,} training rows in {len(classes):,} classes" if classes else "",
        examples=tuple(shown_text(example, 4_000) for example in audit.examples),
    )


# --- findings -------------------------------------------------------------------------------------------------------


def _finding_views(audit: AuditRecord, rows: Rows | None, run_id: str) -> Iterable[FindingView]:
    order = sorted(audit.findings, key=lambda f: (f.severity != "error", -f.effect, f.severity == "info", f.id))
    largest = max((finding.effect for finding in order), default=0.0)
    for rank, finding in enumerate(order, start=1):
        pairs = tuple(_pairs(finding, rows)) if rows and finding.id in ALIKE else ()
        effect = _effect(finding)
        yield FindingView(
            rank=rank,
            finding=finding,
            tone=TONES[finding.severity],
            rows=_rows(finding),
            effect=effect,
            certainty=_certainty(finding),
            bar=_effect_bar(finding, largest, effect),
            command=_command(finding, run_id),
            evidence=() if pairs else tuple(shown_text(line, MOST_TEXT) for line in finding.evidence),
            pairs=pairs,
            examples=() if pairs or rows is None else tuple(_examples(finding, rows)),
        )


def _effect(finding: Finding) -> str:
    if finding.effect:
        return f"{_percent(finding.effect)} of training rows"
    return "no training row" if finding.sample_ids else "not a matter of single rows"


def _certainty(finding: Finding) -> str:
    if finding.certainty >= 0.995:
        return "certain"
    return f"{100 * finding.certainty:.0f} % of them truly wrong" if finding.certainty else "to read, none held wrong"


def _effect_bar(finding: Finding, largest: float, effect: str) -> Markup:
    if not finding.effect:
        return Markup("")
    return size_bar(finding.effect, largest, f"fill {TONES[finding.severity]}", f"{finding.title}: {effect}")


def _rows(finding: Finding) -> str:
    return plural(finding.count, "row")


def _percent(share: float) -> str:
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _command(finding: Finding, run_id: str) -> str:
    """The command that writes the recipe for a finding; "" where only a person can mend it."""
    if not run_id or not (finding.id in MENDS or finding.sample_ids):
        return ""
    return f"foretune data recipe {run_id} --accept {finding.id} --out clean.toml"


def _pairs(finding: Finding, rows: Rows) -> Iterable[tuple[ShownRow, ShownRow]]:
    """Rows side by side: the two that an evidence line names, or the one it names and the flagged one it quotes."""
    flagged = [rows.by_id[name] for name in finding.sample_ids[:MOST_SEARCHED] if name in rows.by_id]
    found: list[tuple[Sample, Sample]] = []
    for line in finding.evidence:
        named = [rows.by_place[place] for place in _places_in(line, rows) if place in rows.by_place]
        if len(named) == 1:
            named += _quoted(line, named[0], flagged)
        if len(named) >= 2 and named[0] is not named[1]:
            found.append((named[0], named[1]))
    return (_side_by_side(left, right) for left, right in found[:NUM_PAIRS])


def _places_in(line: str, rows: Rows) -> list[str]:
    files = sorted({place.rpartition(":")[0] for place in rows.by_place}, key=len, reverse=True)
    if not files:
        return []
    return re.findall(rf"(?:{'|'.join(map(re.escape, files))}):\d+", line)


def _quoted(line: str, other: Sample, flagged: Sequence[Sample]) -> list[Sample]:
    """The flagged row whose input the line ends with."""
    quoted = line.partition(f"{other.place}: ")[2].split(" ... ")[0][:HEAD_CHARS]
    hits = (
        row for row in flagged if row is not other and " ".join(normalised(input_key(row)).split()).startswith(quoted)
    )
    return [row for row in [next(hits, None)] if row is not None and quoted]


def _side_by_side(left: Sample, right: Sample) -> tuple[ShownRow, ShownRow]:
    answers = [shown_text(row.target or row.text, MOST_TEXT) for row in (left, right)]
    both = zip((left, right), answers, reversed(answers), strict=True)
    first, second = (
        ShownRow(_place(row), shown_text(row.input_text, MOST_TEXT), tuple(differing(answer, other)))
        for row, answer, other in both
    )
    return first, second


def _examples(finding: Finding, rows: Rows) -> Iterable[ShownRow]:
    for row in (rows.by_id[name] for name in finding.sample_ids[:NUM_ROWS] if name in rows.by_id):
        answer = shown_text(row.target, MOST_TEXT) if row.messages else ""
        yield ShownRow(_place(row), shown_text(row.input_text, MOST_TEXT), ((answer, False),) if answer else ())


def _place(row: Sample) -> str:
    return row.place or row.id


# --- figures --------------------------------------------------------------------------------------------------------

SPLIT_HEADS = ("Rows", "Share", "Mean tokens", "Median", "95 % up to", "Longest", "Mean answer", "Cut off", "Languages")


def _cards(audit: AuditRecord, dataset: DatasetRecord | None, max_seq_len: int) -> Iterable[Card]:
    sizes = {name: split.num_samples for name, split in dataset.splits.items()} if dataset else {}
    note = ", ".join(f"{name} {size:,}" for name, size in sizes.items()) or f"version {audit.dataset_version[:12]}"
    yield Card("Samples", f"{audit.num_samples:,}", note)
    spoilt = min(1.0, sum(f.effect for f in audit.findings if f.severity != "info"))
    yield Card("Training rows in doubt", f"up to {_percent(spoilt)}", "rows found × share of them truly wrong")
    stats = audit.tokens.get("train")
    if stats is not None:
        limit = f"longer than {max_seq_len:,} tokens" if max_seq_len else "no limit set"
        yield Card("Training rows cut off", _cut(stats), limit)
        yield Card("Typical row", f"{stats.p50:,.0f} tokens", f"95 % up to {stats.p95:,.0f}, longest {stats.max:,}")


def _cut(stats: TokenStats) -> str:
    return "0" if stats.truncated_fraction == 0 else f"{100 * stats.truncated_fraction:.2g} %"


def _split_rows(
    audit: AuditRecord, dataset: DatasetRecord | None, splits: Mapping[str, Sequence[Sample]]
) -> Iterable[tuple[str, tuple[str, ...]]]:
    sizes = {name: split.num_samples for name, split in dataset.splits.items()} if dataset else {}
    total = sum(sizes.values()) or 1
    for name in sizes or audit.tokens:
        stats = audit.tokens.get(name)
        head = (f"{sizes[name]:,}", f"{100 * sizes[name] / total:.1f} %") if name in sizes else ("–", "–")
        yield name, (*head, *_stat_cells(stats), _languages_of(splits.get(name, ())))


def _stat_cells(stats: TokenStats | None) -> tuple[str, ...]:
    if stats is None:
        return ("–",) * 6
    figures = (stats.mean, stats.p50, stats.p95, stats.max, stats.answer_mean)
    return (*(f"{figure:,.0f}" for figure in figures), _cut(stats))


def _languages_of(samples: Sequence[Sample]) -> str:
    counts = {name: count for name, count in language_counts(samples).most_common() if name} if samples else {}
    total = sum(counts.values())
    told = [f"{name} {100 * count / total:.0f} %" for name, count in counts.items() if count >= 0.005 * total]
    return ", ".join(told[:3]) or "–"


def _panels(audit: AuditRecord, rows: Rows | None, max_seq_len: int) -> Iterable[LengthPanel]:
    found = lengths_of(rows.splits.get("train", ()), rows.tokenizer) if rows else ()
    if rows and found:
        return [_panel(lengths, max_seq_len, len(rows.splits["train"])) for lengths in found]
    stats = audit.tokens.get("train")
    if stats is None or not any(stats.histogram):
        return []
    return [_panel(_recorded(stats), max_seq_len, sum(stats.histogram))]


def _recorded(stats: TokenStats) -> Lengths:
    """The lengths that the record itself keeps: the whole row, in equal bins up to the longest."""
    step = stats.max / len(stats.histogram)
    edges = tuple(round(index * step, 3) for index in range(len(stats.histogram) + 1))
    return Lengths("whole row", "tokens", stats.histogram, edges, stats.p50, stats.p95, stats.max, sum(stats.histogram))


def _panel(lengths: Lengths, max_seq_len: int, num_rows: int) -> LengthPanel:
    title = f"{lengths.part.capitalize()}: rows by {lengths.unit}"
    figures = f"half up to {lengths.median:,.0f}, 95 % up to {lengths.p95:,.0f}, longest {lengths.longest:,}"
    limit = max_seq_len if lengths.part == "whole row" and lengths.unit == "tokens" else 0
    of = f" of {num_rows:,}" if lengths.num_rows < num_rows else ""
    note = f"{figures}; n = {lengths.num_rows:,}{of} rows"
    if limit > lengths.edges[-1] * 1.05:
        note += f"; cut at {limit:,}"
    label = f"{title}, training split: {figures}"
    return LengthPanel(title, length_chart(lengths.counts, lengths.edges, lengths.unit, limit, label), note)


def _shares(counts: Mapping[str, int], most: int, unnamed: str) -> Iterable[Share]:
    """The largest shares, and the rest as one; nothing where there is only one."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) < 2:
        return
    total, rest = sum(counts.values()), sum(count for _, count in ranked[most:])
    shown = [(shown_text(name, 60) or unnamed or "(empty)", count) for name, count in ranked[:most]]
    if rest:
        shown.append((f"{len(ranked) - most:,} others", rest))
    largest = max(count for _, count in shown) / total
    for name, count in shown:
        share = _percent(count / total)
        label = f"{name}: {count:,} rows, {share}"
        yield Share(name, f"{count:,}", share, size_bar(count / total, largest, "fill tuned", label))
