"""Coverage as people read it: what production asks and training lacks, on a map, in numbers, and what to collect."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from foretune.audit.coverage.record import CoverageRecord, MapPoint, Topic
from foretune.audit.coverage.tone import Compared
from foretune.ui.data_charts import MapDot, dot_map, share_pair, two_distributions
from foretune.ui.portrait import shown_text
from foretune.ui.summary import Headline
from foretune.ui.words import plural, show_p_value

__all__ = ["CoverageView", "coverage_headline", "coverage_view"]

MOST_TEXT = 300  # characters of a production text that are shown
NUM_TYPICAL, NUM_FARTHEST = 3, 5
KINDS = {"slice": "slice", "cluster": "topic", "language": "language"}
STATUS = {
    "ok": ("gained", "covered"),
    "weak": ("warn", "weak"),
    "missing": ("lost", "missing"),
    "unused": ("open", "not asked"),
}


@dataclass(frozen=True)
class GapView:
    """One topic that training lacks; `number` is its mark on the map, "" where it is not on it."""

    number: str
    topic: Topic
    kind: str
    tone: str
    status: str
    production: str
    train: str
    needed: str
    chance: str
    bar: Markup
    typical: tuple[str, ...]
    farthest: tuple[str, ...]


@dataclass(frozen=True)
class TopicRow:
    """One line of the table of topics."""

    number: str
    name: str
    kind: str
    tone: str
    status: str
    production: str
    train: str
    needed: str
    bar: Markup


@dataclass(frozen=True)
class ComparedView:
    """One feature on both sides."""

    title: str
    chart: Markup
    note: str
    mismatch: str


@dataclass(frozen=True)
class CoverageView:
    """All that the coverage page shows."""

    map: Markup | None
    num_points: int
    gaps: tuple[GapView, ...]
    topics: tuple[TopicRow, ...]
    compared: tuple[ComparedView, ...]
    drift: str
    is_drifting: bool


def coverage_headline(record: CoverageRecord) -> Headline:
    """What is missing and how many examples fill it, as one sentence."""
    gaps = record.gaps
    facts = (
        f"{plural(record.num_production, 'production request')} against {plural(record.num_train, 'training row')}",
        f"Embedder: {record.embedder}",
    )
    drift = _drift(record)
    if not gaps:
        verdict, label = ("inconclusive", "Drift") if record.is_drifting else ("better", "Covered")
        return Headline(verdict, label, (("Training covers what production asks: no gap found.", False),), drift, facts)
    lacking = _largest_lack(gaps)
    what = plural(len(gaps), "gap")
    parts = (
        (f"Training lacks {lacking} of what production asks: ", False),
        (what, True),
        (", about ", False),
        (plural(_needed(gaps), "example"), True),
        (" to collect.", False),
    )
    return Headline(
        "worse" if any(gap.status == "missing" for gap in gaps) else "inconclusive", "Gaps", parts, drift, facts
    )


def _largest_lack(gaps: Sequence[Topic]) -> str:
    """Production's share in gaps of one kind; kinds overlap, so the largest kind speaks."""
    by_kind = [sum(gap.production_share for gap in gaps if gap.kind == kind) for kind in KINDS]
    return f"examples for {100 * max(by_kind):.0f} %"


def _needed(gaps: Sequence[Topic]) -> int:
    """Examples that fill every gap of the kind that needs most; one example may fill gaps of several kinds."""
    return max(sum(gap.needed for gap in gaps if gap.kind == kind) for kind in KINDS)


def _drift(record: CoverageRecord) -> str:
    strange = f"{record.num_strange:,} of {record.num_production:,} requests are unlike anything in training"
    sure = show_p_value(record.drift_p_value)
    return f"{strange}, {'more than chance explains' if record.is_drifting else 'which chance explains'} ({sure})."


def coverage_view(record: CoverageRecord) -> CoverageView:
    """The view of a coverage record. Texts have personal data replaced."""
    clusters = [topic for topic in record.topics if topic.kind == "cluster"]
    numbers = {id(topic): str(n) for n, topic in enumerate((t for t in record.gaps if t.kind == "cluster"), start=1)}
    largest = max((max(t.production_share, t.train_share) for t in record.topics), default=1.0)
    order = {"missing": 0, "weak": 1, "ok": 2, "unused": 3}
    ranked = sorted(record.topics, key=lambda t: (order[t.status], t.kind, -t.production_share))
    return CoverageView(
        map=_map(record.points, clusters, numbers) if record.points else None,
        num_points=len(record.points),
        gaps=tuple(_gap_view(topic, numbers.get(id(topic), ""), largest) for topic in record.gaps),
        topics=tuple(_topic_row(topic, numbers.get(id(topic), ""), largest) for topic in ranked),
        compared=tuple(_comparisons(record)),
        drift=_drift(record),
        is_drifting=record.is_drifting,
    )


def _bar(topic: Topic, largest: float) -> Markup:
    label = (
        f"{topic.name}: {100 * topic.production_share:.1f} % of production, {100 * topic.train_share:.1f} % of training"
    )
    return share_pair(topic.production_share, topic.train_share, largest, label)


def _share(share: float, count: int) -> str:
    return f"{100 * share:.1f} % ({count:,})"


def _gap_view(topic: Topic, number: str, largest: float) -> GapView:
    tone, status = STATUS[topic.status]
    return GapView(
        number=number,
        topic=topic,
        kind=KINDS[topic.kind],
        tone=tone,
        status=status,
        production=_share(topic.production_share, topic.num_production),
        train=_share(topic.train_share, topic.num_train),
        needed=f"{topic.needed:,}",
        chance=show_p_value(topic.p_value),
        bar=_bar(topic, largest),
        typical=tuple(shown_text(text, MOST_TEXT) for text in topic.typical[:NUM_TYPICAL]),
        farthest=tuple(shown_text(text, MOST_TEXT) for text in topic.farthest[:NUM_FARTHEST]),
    )


def _topic_row(topic: Topic, number: str, largest: float) -> TopicRow:
    tone, status = STATUS[topic.status]
    return TopicRow(
        number=number,
        name=topic.name,
        kind=KINDS[topic.kind],
        tone=tone,
        status=status,
        production=_share(topic.production_share, topic.num_production),
        train=_share(topic.train_share, topic.num_train),
        needed=f"{topic.needed:,}" if topic.needed else "",
        bar=_bar(topic, largest),
    )


# --- map ------------------------------------------------------------------------------------------------------------


def _map(points: Sequence[MapPoint], clusters: Sequence[Topic], numbers: dict[int, str]) -> Markup:
    """Training below, production above it, gaps on top and numbered in the middle of their production rows."""
    is_gap = [id(topic) in numbers for topic in clusters]

    def layer(point: MapPoint) -> tuple[int, str]:
        if point.side == "train":
            return 0, "fill map-train"
        gap = 0 <= point.topic < len(is_gap) and is_gap[point.topic]
        return (2, "fill map-gap") if gap else (1, "fill map-production")

    dots = sorted(((*layer(point), point) for point in points), key=lambda item: item[0])
    shown = [MapDot(p.x, p.y, name, f"{p.side}: {shown_text(p.text, 90)}") for _, name, p in dots]
    marks = list(_marks(points, clusters, numbers))
    names = "; ".join(f"{number} {topic.name}" for topic in clusters if (number := numbers.get(id(topic))))
    label = f"Map of {len(points):,} rows, near ones alike" + (f"; gaps: {names}" if names else "")
    return dot_map(shown, marks, label)


def _marks(
    points: Sequence[MapPoint], clusters: Sequence[Topic], numbers: dict[int, str]
) -> Iterable[tuple[float, float, str, str]]:
    for index, topic in enumerate(clusters):
        number = numbers.get(id(topic))
        inside = [point for point in points if point.topic == index and point.side == "production"]
        if number and inside:
            yield median(p.x for p in inside), median(p.y for p in inside), number, f"gap {number}: {topic.name}"


# --- length and tone ------------------------------------------------------------------------------------------------


def _comparisons(record: CoverageRecord) -> Iterable[ComparedView]:
    named = (("Words a request", record.length, "g"), ("Formality, 0 chat to 1 letter", record.formality, ".2f"))
    for title, compared, digits in named:
        if compared.edges:
            yield _compared_view(title, compared, digits)


def _compared_view(title: str, compared: Compared, digits: str) -> ComparedView:
    is_length = digits == "g"
    train = compared.train_median if is_length else compared.train_mean
    production = compared.production_median if is_length else compared.production_mean
    what = "median" if is_length else "mean"
    note = f"{what} {production:{digits}} in production, {train:{digits}} in training; {show_p_value(compared.p_value)}"
    chart = two_distributions(
        compared.train_histogram,
        compared.production_histogram,
        compared.edges,
        ("training", "production"),
        f"{title}: {note}",
    )
    mismatch = f"production is {compared.mismatch}" if compared.mismatch else "no difference that matters"
    return ComparedView(title, chart, note, mismatch)
