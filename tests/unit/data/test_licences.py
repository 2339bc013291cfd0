"""Whether data may be mixed in and a model released: licences joined, known sets, subsets of mixtures."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.data.known import find_known, subset_licence
from foretune.data.licences import check_release, licence_faults, licence_id, licence_terms, release_conflicts
from foretune.data.mix import mixed
from foretune.data.samples import Message, Sample
from foretune.errors import GateRefused
from foretune.records.dataset import DatasetSource


@pytest.mark.req("R376")
@pytest.mark.parametrize(
    ("licence", "release", "why"),
    [
        ("MIT", "Apache-2.0", ""),
        ("CC-BY-SA-4.0", "Apache-2.0", ""),
        ("own", "MIT", ""),
        ("CC-BY-NC-4.0", "Apache-2.0", "forbids commercial use, which Apache-2.0 grants"),
        ("CC-BY-NC-4.0", "CC-BY-NC-4.0", ""),
        ("CC-BY-ND-4.0", "CC-BY-4.0", "forbids changed copies"),
        ("unknown", "MIT", "nobody knows"),
        ("MIT AND CC-BY-NC-4.0", "MIT", "forbids commercial use"),
        ("MIT AND unknown", "MIT", "nobody knows"),
    ],
)
def test_each_source_is_held_against_the_licence_of_the_release(licence: str, release: str, why: str) -> None:
    found = release_conflicts([("rows", licence)], release)
    assert (why in found[0].why and found[0].instead) if why else found == []


@pytest.mark.req("R387")
@pytest.mark.parametrize("licence", ["copyrighted", "All rights reserved", "(c) 2024 A Paper", "no-permission"])
def test_copyrighted_text_without_permission_warns_and_blocks(licence: str) -> None:
    terms = licence_terms(licence)
    assert terms.share == "internal" and not terms.allows_open_release and "ask its owner" in terms.warning
    assert licence_faults([licence], "research") != []
    with pytest.raises(GateRefused, match="nobody gave permission"):
        check_release([("news", licence)], "MIT")


@pytest.mark.req("R430")
def test_alpaca_under_apache_is_a_conflict_with_freer_alternatives() -> None:
    for stated in ("unknown", "Apache-2.0", "CC-BY-NC-4.0"):
        with pytest.raises(GateRefused) as caught:
            check_release([("ours", "own"), ("hf:tatsu-lab/alpaca@abc", stated)], "apache-2.0")
        assert "tatsu-lab/alpaca" in caught.value.what and "ours" not in caught.value.what
        assert "OpenAssistant/oasst1 (Apache-2.0)" in caught.value.fix
        assert "databricks/databricks-dolly-15k (CC-BY-SA-3.0)" in caught.value.fix
    check_release([("OpenAssistant/oasst1", "unknown"), ("databricks/databricks-dolly-15k", "unknown")], "Apache-2.0")


@pytest.mark.req("R430")
def test_a_mixture_is_judged_by_subset() -> None:
    tulu = find_known("hf:allenai/tulu-3-sft-mixture:default@main")
    assert tulu is not None and tulu.licence == "ODC-By-1.0"
    assert subset_licence(tulu, {"source": "ai2-adapt-dev/no_robots_converted"}) == "CC-BY-NC-4.0"
    assert subset_licence(tulu, {"source": "ai2-adapt-dev/oasst1_converted"}) == "Apache-2.0"
    assert subset_licence(tulu, {"source": "never seen"}) == subset_licence(tulu, {}) == "unknown"
    source = DatasetSource(path="t.jsonl", sha256="", format="", num_rows=1, licence="ODC-By-1.0", name=tulu.id)

    def row(name: str, subset: str) -> Sample:
        turns = (Message("user", name), Message("assistant", "x"))
        return Sample(name, turns, place="t.jsonl:1", meta={"source": subset})

    own = [row(f"own {n}", "") for n in range(9)]
    with pytest.raises(GateRefused, match="forbids commercial use"):
        mixed(own, [row("g", "x/no_robots_converted")], fraction=0.1, sources=[source])
    assert mixed(own, [row("g", "x/oasst1_converted")], fraction=0.1, sources=[source]).licences == {"Apache-2.0": 1}


def test_several_licences_at_once_forbid_what_one_forbids() -> None:
    assert licence_id("mit AND cc-by-nc-4.0 AND mit") == "MIT AND CC-BY-NC-4.0"
    terms = licence_terms("MIT AND CC-BY-SA-4.0")
    assert terms.allows_open_release and terms.share_alike and "share-alike" in terms.warning
    assert licence_terms("MIT AND unknown").commercial is None


@pytest.mark.req("R376")
def test_the_rights_of_files_and_runs_are_counted_by_source_and_subset(tmp_path: Path) -> None:
    from foretune.collect.collect import collect
    from foretune.collect.rights import rights_of_path, rights_of_run
    from foretune.config.job import DataConfig, JobConfig
    from foretune.records.run import ResolvedRecord

    subsets = ("x/no_robots_converted", "x/oasst1_converted", "x/oasst1_converted")
    rows = [{"prompt": f"question {n * 7919} {n}", "completion": "a", "source": subsets[n % 3]} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "source.json").write_text('{"licence": "odc-by", "name": "hf:allenai/tulu-3-sft-mixture@abc"}')
    name = "hf:allenai/tulu-3-sft-mixture@abc"
    expected = {(f"{name} / {subsets[1]}", "Apache-2.0", 20), (f"{name} / {subsets[0]}", "CC-BY-NC-4.0", 10)}
    assert set(rights_of_path(tmp_path / "rows.jsonl")) == expected
    run_dir = tmp_path / "runs" / "job-001"
    job = JobConfig(data=DataConfig(path="rows.jsonl"))
    collect(job, folder=tmp_path, runs_dir=tmp_path / "runs", run_dir=run_dir)
    known = {"run_id": "job-001", "created": "2026-01-01T00:00:00.000+00:00", "foretune_version": "0"}
    ResolvedRecord(**known, job={}, origins={}, folder=str(tmp_path)).write(run_dir)
    assert set(rights_of_run(tmp_path / "runs", "job-001")) == expected
