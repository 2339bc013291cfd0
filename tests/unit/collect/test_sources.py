"""Licences, share policies and provenance: known data sets, cards beside files, and who may see what."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.articles import url_key
from foretune.collect.collect import collect
from foretune.collect.sources import SourceCard, read_card, write_card
from foretune.config.job import DataConfig, JobConfig
from foretune.data.known import KNOWN_DATASETS, find_known
from foretune.data.licences import licence_id, licence_terms
from foretune.data.provenance import provenance_of, shareable, strictest, with_provenance
from foretune.data.samples import Sample, sample_hash
from foretune.data.store import DatasetStore
from foretune.errors import DataError
from foretune.records.dataset import DatasetRecord, Provenance


def write_rows(path: Path, num: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"{path.stem} {n * 7919 % 104729} {n}?", "answer": f"answer {n}"} for n in range(num)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def collected(folder: Path, path: str = "data") -> DatasetRecord:
    job = JobConfig(data=DataConfig(path=path))
    return collect(job, folder=folder, runs_dir=folder / "runs", run_dir=folder / "runs" / "r")


@pytest.mark.req("R094")
@pytest.mark.req("R095")
@pytest.mark.req("R096")
@pytest.mark.req("R097")
def test_known_data_sets_have_their_licence_and_what_follows_from_it() -> None:
    alpaca, samsum, squad = (find_known(name) for name in ("tatsu-lab/alpaca", "samsum", "squad_v2"))
    assert alpaca and samsum and squad
    assert (alpaca.licence, samsum.licence, squad.licence) == ("CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-SA-4.0")
    assert licence_terms(alpaca.licence).commercial is False and "non-commercial" in alpaca.warning
    assert samsum.num_rows == 14_732 and not licence_terms(samsum.licence).allows_open_release
    assert "open release is blocked" in licence_terms(samsum.licence).warning
    assert licence_terms(squad.licence).share_alike and licence_terms(squad.licence).allows_open_release
    for name in ("ShareGPT", "Alpaca"):
        known = find_known(name)
        assert known and known.warning and known.instead
        freer = [find_known(other) for other in known.instead]
        assert all(other and licence_terms(other.licence).allows_open_release for other in freer)
    assert find_known("nobody/nothing") is None
    assert all(known.source and known.licence == licence_id(known.licence) for known in KNOWN_DATASETS)


@pytest.mark.parametrize(
    ("text", "name", "share"),
    [
        ("cc-by-4.0", "CC-BY-4.0", "public"),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0", "public"),
        ("cc-by-nc-nd-4.0", "CC-BY-NC-ND-4.0", "internal"),
        ("mit", "MIT", "public"),
        ("apache-2.0", "Apache-2.0", "public"),
        ("odc-by", "ODC-By-1.0", "public"),
        ("cc0-1.0", "CC0-1.0", "public"),
        ("other", "unknown", "internal"),
        ("", "unknown", "internal"),
        (None, "unknown", "internal"),
        ("Own", "own", "internal"),
        ("llama3", "llama3", "internal"),
    ],
)
def test_licences_are_named_and_told(text: str | None, name: str, share: str) -> None:
    terms = licence_terms(text)
    assert (terms.licence, terms.share) == (name, share)
    assert bool(terms.warning) is (name not in ("CC-BY-4.0", "MIT", "Apache-2.0", "ODC-By-1.0", "CC0-1.0", "own"))


@pytest.mark.req("R101")
@pytest.mark.req("R102")
def test_cards_beside_the_files_reach_the_record_and_every_sample(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "train.jsonl")
    test = write_rows(tmp_path / "data" / "test.jsonl", 10)
    (tmp_path / "data" / "source.json").write_text('{"licence": "cc-by-4.0", "share": "public", "name": "ours"}')
    write_card(test, SourceCard(kind="hub", name="hf:a/b", licence="cc-by-nc-4.0", retrieved_at="2026-11-21T12:00:00Z"))
    record = collected(tmp_path)
    by_name = {Path(source.path).name: source for source in record.sources}
    assert (by_name["train.jsonl"].licence, by_name["train.jsonl"].share) == ("CC-BY-4.0", "public")
    assert by_name["train.jsonl"].retrieved_at.endswith("Z")
    assert (by_name["test.jsonl"].kind, by_name["test.jsonl"].retrieved_at) == ("hub", "2026-11-21T12:00:00Z")
    assert any("hf:a/b: CC-BY-NC-4.0 is non-commercial" in warning for warning in record.warnings)
    store = DatasetStore(tmp_path / "runs")
    for split in ("train", "validation", "test"):
        for sample in store.load(record.version, split):
            found = provenance_of(sample, record.sources)
            assert found.source == ("hf:a/b" if split == "test" else "ours") and found.retrieved_at
            assert (found.licence, found.sha256) == (
                by_name[sample.place.partition(":")[0]].licence,
                sample_hash(sample),
            )


@pytest.mark.req("R101")
def test_a_licence_that_nobody_wrote_down_is_a_warning_and_one_line_settles_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "rows.jsonl")
    (warning,) = collected(tmp_path).warnings
    assert "data/rows.jsonl: the licence is not known" in warning and "source.json" in warning
    (tmp_path / "data" / "source.json").write_text('{"licence": "own"}')
    assert collected(tmp_path).warnings == ()


@pytest.mark.req("R103")
def test_each_audience_sees_what_the_sources_allow() -> None:
    def sample(name: str, share: Any, url: str = "") -> Sample:
        origin = Provenance(source="s", licence="l", retrieved_at="t", sha256=name, share=share, url=url)
        return with_provenance(Sample(name, text=name, meta={"published_at": "2026-11-20"}), origin)

    samples = [sample("p", "public"), sample("l", "link-only", "https://a.example"), sample("i", "internal")]
    samples += [sample("n", "none"), sample("x", "link-only")]
    seen = shareable(samples)
    assert [s.id for s in seen.samples] == ["p"] and seen.withheld == {"internal": 1, "none": 1, "link-only": 1}
    assert seen.links == ({"url": "https://a.example", "sha256": "l", "source": "s", "published_at": "2026-11-20"},)
    inside = shareable(samples, audience="internal")
    assert [s.id for s in inside.samples] == ["p", "l", "i", "x"] and inside.withheld == {"none": 1}
    assert strictest(["public", "none", "internal"]) == "none" and strictest([]) == "internal"
    unknown = shareable([Sample("u", text="u", place="u.jsonl:1")])
    assert unknown.samples == () and unknown.withheld == {"internal": 1}


def test_damaged_cards_and_provenance_are_told_and_foreign_files_left_alone(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl")
    for foreign in ('{"name": "somebody else\'s"}', "[1]", "not json"):
        (tmp_path / "source.json").write_text(foreign)
        assert read_card(file) == SourceCard()
    (tmp_path / "source.json").write_text('{"licence": "mit", "share": "everyone"}')
    with pytest.raises(DataError, match=r"source\.json: share"):
        read_card(file)
    (tmp_path / "source.rows.jsonl.json").write_text("{half")
    with pytest.raises(DataError, match="cannot be read"):
        read_card(file)
    with pytest.raises(DataError, match=r"f\.jsonl:3: provenance"):
        provenance_of(Sample("a", text="a", place="f.jsonl:3", meta={"provenance": {"source": "x"}}))


def test_urls_of_one_article_have_one_key() -> None:
    same = [
        "https://www.a.example/x/?utm_source=b&id=2",
        "http://a.example/x?id=2#part",
        "https://A.example:443/x?id=2&fbclid=9",
    ]
    assert {url_key(url) for url in same} == {"a.example/x?id=2"}
    assert url_key("https://a.example/x?id=3") != url_key(same[0])
    assert url_key("https://a.example/X?b=1&a=2") == url_key("https://a.example/X?a=2&b=1")
