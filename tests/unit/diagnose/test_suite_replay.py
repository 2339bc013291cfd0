"""The planted-fault suite's recorded evidence, judged anew: the rates that are written down still hold."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RECORDED = BENCHMARKS / "results" / "diagnose.json"


@pytest.fixture(scope="module")
def judged() -> Iterator[list[Any]]:
    """Every packed run with its diagnosis; none of the suite's modules that train is imported."""
    sys.path.insert(0, str(BENCHMARKS))
    from diagnose_suite.pack import PACKED, read_packed
    from diagnose_suite.scoring import seen

    yield [seen(run) for run in read_packed(PACKED)]
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("half", ["dev", "first", "heldout", "check", "final", "language"])
def test_rates_are_as_recorded(judged: list[Any], half: str) -> None:
    metrics: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))["metrics"]
    if half not in metrics:
        pytest.skip(f"no figures of {half} are recorded yet")
    recorded = metrics[half]
    harmful = [one for one in judged if one.run.half == half and one.run.counts]
    sound = [one for one in judged if one.run.half == half and not one.run.is_fault]
    assert (sum(one.is_right for one in harmful), len(harmful)) == (recorded["top1"]["right"], recorded["top1"]["n"])
    assert sum(one.is_listed for one in harmful) == recorded["listed"]["right"]
    assert sum(not one.is_right for one in sound) == recorded["false_alarms"]["right"]


def test_the_halves_share_no_task_base_or_seed(judged: list[Any]) -> None:
    halves = {half: [one.run for one in judged if one.run.half == half] for half in {one.run.half for one in judged}}
    assert {"dev", "first"} <= set(halves)
    for one, other in combinations(halves, 2):
        is_same_base = {one, other} in ({"heldout", "check"}, {"final", "language"})
        for name in ("task", "seed") if is_same_base else ("task", "base", "seed"):
            both = [{getattr(run, name) for run in halves[half]} for half in (one, other)]
            assert both[0].isdisjoint(both[1]), (one, other, name)


def test_packing_a_half_anew_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from diagnose_suite import pack

    packed = tmp_path / "packed.xz"
    monkeypatch.setattr(pack, "_packed", lambda run: {"half": run.half, "made": run.name})
    for made, halves in (("first", "dev check"), ("second", "check")):
        runs = [SimpleNamespace(half=half, name=made) for half in halves.split()]
        monkeypatch.setattr(pack, "read_folder", lambda folder, runs=runs: runs)
        size = pack.pack([tmp_path], packed)
    told = [(one["half"], one["made"]) for one in map(json.loads, pack._lines(packed))]
    assert told == [("dev", "first"), ("check", "second")] and size == packed.stat().st_size
