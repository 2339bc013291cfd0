"""Coverage: share gaps are named with the examples they need; alike sides raise no alarm."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from foretune.audit.coverage.coverage import coverage, field_slicer, rule_slicer
from foretune.audit.coverage.gaps import slice_shares
from foretune.audit.coverage.record import CoverageRecord
from foretune.audit.coverage.tasks import (
    collection_samples,
    collection_tasks,
    coverage_findings,
    sufficiency,
    write_collection_tasks,
)
from foretune.audit.coverage.tone import compare_formality, compare_lengths, formality, num_words
from foretune.data.samples import Message, Sample
from foretune.errors import DataError

WORDS = {
    "billing": "invoice refund charge payment billed fee subscription receipt overcharged discount".split(),
    "login": "password login account locked reset username verification code email authenticator".split(),
    "shipping": "delivery parcel courier tracking address shipped delayed warehouse order package".split(),
    "product": "battery screen keyboard warranty broken charger manual device overheating button".split(),
}
FRAMES = (
    "I have a question about the {} and the {} of my {}",
    "the {} shows a wrong {} since {}",
    "help with {} {} {}",
)


def row(number: int, topic: str, seed: int = 0) -> Sample:
    rng = random.Random(f"{seed}-{number}-{topic}")
    text = rng.choice(FRAMES).format(*rng.sample(WORDS[topic], 3))
    return Sample(f"{topic}{seed}-{number}", (Message("user", text), Message("assistant", "ok")), meta={"area": topic})


def rows(counts: dict[str, int], seed: int = 0) -> list[Sample]:
    return [row(number, topic, seed) for topic, count in counts.items() for number in range(count)]


EVEN = {"billing": 50, "login": 50, "shipping": 50, "product": 50}


@pytest.mark.req("R156")
def test_a_fifth_of_production_and_a_twentieth_of_training_is_weak() -> None:
    share = slice_shares(["billing"] * 50 + ["other"] * 950, ["billing"] * 200 + ["other"] * 800)[0]
    assert (share.name, share.status, share.ratio) == ("billing", "weak", 0.25)


@pytest.mark.req("R157", "R152")
def test_three_tenths_against_one_tenth_says_how_many_are_needed() -> None:
    train, production = rows({"billing": 20, "login": 180}), rows({"billing": 60, "login": 140}, seed=1)
    record = coverage(train, production, slicer=field_slicer("area"), embedder="tfidf")
    gap = next(topic for topic in record.gaps if topic.kind == "slice")
    assert (gap.name, gap.num_train, gap.needed) == ("billing", 20, 58)
    assert (20 + gap.needed) / (200 + gap.needed) == pytest.approx(0.3, abs=0.005)


@pytest.mark.req("R155")
def test_slices_are_counted_and_a_missing_one_is_told() -> None:
    slicer = rule_slicer({"billing": ["invoice", "REFUND"], "login": ["password"]})
    assert slicer(Sample("x", (Message("user", "My Refund?"), Message("assistant", "")))) == "billing"
    assert slicer(Sample("x", text="nothing")) == "other"
    shares = slice_shares(["a"] * 5, ["a"] * 5, expected=["a", "edge cases"])
    assert [(s.name, s.status, s.num_train) for s in shares] == [("edge cases", "missing", 0), ("a", "ok", 5)]
    nested = field_slicer("customer.type")
    assert nested(Sample("x", text="t", meta={"customer": {"type": "new"}})) == "new"
    assert nested(Sample("x", text="t", meta={"customer": "?"})) == "other"


@pytest.mark.req("R158", "R159", "R152")
def test_a_cluster_that_training_lacks_is_found_named_and_exported(tmp_path: Path) -> None:
    train = rows({**EVEN, "billing": 4})
    production = rows({**EVEN, "billing": 60}, seed=1)
    record = coverage(train, production, embedder="tfidf")
    assert record.gaps
    words = set(WORDS["billing"])
    for gap in record.gaps:
        assert words & set(gap.name.replace(",", "").split())
        assert gap.needed > 0
        assert all(words & set(text.split()) for text in gap.farthest)
    assert 25 <= sum(gap.needed for gap in record.gaps) <= 70
    tasks = [json.loads(line) for line in write_collection_tasks(record, tmp_path / "t.jsonl").read_text().splitlines()]
    assert tasks == collection_tasks(record)
    assert sum(task["needed"] for task in tasks) == sum(gap.needed for gap in record.gaps)
    asked = collection_samples(record.gaps)
    assert all(sample.prompt or sample.input_text for sample in asked)
    assert {finding.id for finding in coverage_findings(record)} >= {"DATA110"}
    assert CoverageRecord.read(record.write(tmp_path).parent) == record


def test_two_samples_of_one_kind_raise_no_alarm_and_the_report_is_deterministic() -> None:
    train, production = rows(dict.fromkeys(EVEN, 150)), rows(EVEN, seed=1)
    record = coverage(train, production, slicer=field_slicer("area"), embedder="tfidf")
    assert record.gaps == ()
    assert coverage_findings(record) == []
    assert coverage(train, production, slicer=field_slicer("area"), embedder="tfidf") == record
    assert "TF-IDF" in record.embedder
    assert {point.side for point in record.points} == {"train", "production"}
    assert sum(t.num_train for t in record.topics if t.kind == "cluster") == len(train)


@pytest.mark.req("R154")
def test_longer_production_queries_are_a_mismatch() -> None:
    short = ["reset my password"] * 40
    long = ["I tried to reset my password three times today and it did not work at all"] * 40
    assert compare_lengths(short, long).mismatch == "longer"
    assert compare_lengths(long, short).mismatch == "shorter"
    assert compare_lengths(short, short).mismatch == ""
    assert compare_lengths(short[:5], long[:5]).mismatch == ""
    assert num_words("请问怎么重置密码") == 4


@pytest.mark.req("R153")
def test_casual_messages_against_formal_tickets_are_a_mismatch() -> None:
    formal = [f"Dear team, I would like to report that order {n} has not arrived. Please advise." for n in range(40)]
    casual = [f"hey order {n} didnt come lol pls help" for n in range(40)]
    assert formality(formal[0]) > 0.7 > 0.4 > formality(casual[0])
    assert compare_formality(formal, casual).mismatch == "more casual"
    assert compare_formality(casual, formal).mismatch == "more formal"
    assert formality("") == 0.5
    samples = [[Sample(f"{n}", text=text) for n, text in enumerate(side)] for side in (formal, casual)]
    found = coverage_findings(coverage(samples[0], samples[1], embedder="tfidf"))
    assert "DATA112" in {finding.id for finding in found}


def test_strange_traffic_is_a_drift() -> None:
    train = rows(dict.fromkeys(EVEN, 100))
    strange = [Sample(f"s{n}", text=f"who won the football cup in {1950 + n}") for n in range(15)]
    record = coverage(train, [*rows(EVEN, seed=1), *strange], embedder="tfidf")
    assert record.is_drifting
    assert record.num_strange >= 10
    assert record.shift_p_value < 0.05


def test_languages_of_production_are_held_against_training() -> None:
    english = [
        Sample(f"e{n}", text=f"where is the order that I placed on the {n} of this month, please") for n in range(60)
    ]
    spanish = [
        Sample(f"s{n}", text=f"¿dónde está el pedido que hice el día {n} de este mes, por favor?") for n in range(60)
    ]
    record = coverage([*english, *spanish[:2]], [*english[:30], *spanish[:30]], embedder="tfidf")
    gap = next(topic for topic in record.gaps if topic.kind == "language")
    assert gap.name == "es"
    assert "DATA114" in {finding.id for finding in coverage_findings(record)}


@pytest.mark.req("R160")
def test_a_score_counts_only_on_a_test_set_that_looks_like_production() -> None:
    production = rows(EVEN, seed=1)
    good = coverage(rows(EVEN, seed=2), production, slicer=field_slicer("area"), embedder="tfidf")
    poor = coverage(rows({"login": 100, "billing": 2}), production, slicer=field_slicer("area"), embedder="tfidf")
    assert sufficiency(good, score=0.95, bar=0.9).verdict == "enough"
    assert sufficiency(good, score=0.8, bar=0.9).verdict == "collect"
    assert sufficiency(good, score=None, bar=0.9).verdict == "unproven"
    assert sufficiency(poor, score=0.99, bar=0.9).verdict == "unproven"


def test_little_data_is_said_and_none_is_refused() -> None:
    few = coverage(rows({"login": 5}), rows({"billing": 3}), embedder="tfidf")
    assert "tell little" in few.warnings[0]
    with pytest.raises(DataError, match="no production rows"):
        coverage(rows({"login": 5}), [Sample("x", text="  ")])
