"""Predicted against actual, the sentence, and the ledger that the next prediction learns from."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from pathlib import Path

import pytest

from foretune.config import JobConfig
from foretune.hardware import Machine
from foretune.plan import append_ledger, ledger_entries, outcome_sentence, plan, read_ledger, reconcile
from foretune.plan.ledger import LEDGER_FILE, LedgerEntry, learned_factors
from foretune.records.plan import Estimate, PlanRecord, Reconciliation

from .conftest import lengths_of, llama, probe_of


def record_of(machine: Machine, price: float = 0.0) -> PlanRecord:
    job = JobConfig.model_validate({"plan": {"price_per_hour_usd": price}})
    record = plan(job, base_config=llama(), lengths=lengths_of(), probe=probe_of(), machine=machine)
    return record.model_copy(
        update={
            "train_seconds": Estimate(low=58, expected=64, high=71),
            "total_seconds": Estimate(low=80, expected=100, high=130),
            "peak_memory_gb": Estimate(low=0.8, expected=0.9, high=1.0),
        }
    )


def test_each_quantity_is_held_against_its_interval(machine: Machine) -> None:
    items = reconcile(record_of(machine, 3.6), train_seconds=66, peak_memory_bytes=1_200_000_000, total_seconds=110)
    assert [(item.quantity, item.held) for item in items] == [
        ("train_seconds", True),
        ("peak_memory_gb", False),
        ("total_seconds", True),
        ("cost_usd", True),
    ]
    assert items[3].actual == pytest.approx(0.11)
    assert reconcile(record_of(machine), total_seconds=110)[-1].quantity == "total_seconds"
    assert reconcile(record_of(machine)) == ()


def test_sentences(machine: Machine) -> None:
    good, bad = reconcile(record_of(machine), train_seconds=66, peak_memory_bytes=1_200_000_000)
    assert outcome_sentence(good) == "predicted 58-71 s, took 66 s"
    assert outcome_sentence(bad) == "predicted 800.0 MB to 1.0 GB, peaked at 1.2 GB (more than predicted)"
    long = good.model_copy(update={"predicted": Estimate(low=58, expected=100, high=140), "actual": 130.0})
    assert outcome_sentence(long) == "predicted 58 s to 2 min 20 s, took 2 min 10 s"
    (fast,) = reconcile(record_of(machine), train_seconds=10)
    assert outcome_sentence(fast) == "predicted 58-71 s, took 10 s (less than predicted)"
    cost = Reconciliation(quantity="cost_usd", predicted=Estimate(low=1, expected=2, high=3), actual=2.5, held=True)
    assert outcome_sentence(cost) == "predicted $1.00 to $3.00, cost $2.50"


def test_a_run_that_stopped_early_is_held_against_its_share(machine: Machine) -> None:
    record = record_of(machine)
    half = record.num_steps // 2
    share = half / record.num_steps
    train, total = reconcile(record, train_seconds=64 * share, total_seconds=100 - 64 * (1 - share), num_steps=half)
    assert train.predicted.expected == pytest.approx(64 * share)
    assert total.predicted.expected == pytest.approx(100 - 64 * (1 - share))
    assert train.held and total.held


def entries_of(ratios: list[float], **changes: object) -> list[LedgerEntry]:
    base = {
        "run_id": "r",
        "device": "d",
        "method": "lora",
        "base": "pebble",
        "probed": True,
        "quantity": "train_seconds",
        "predicted": Estimate(low=80, expected=100, high=130),
    }
    return [LedgerEntry.model_validate({**base, "actual": 100 * ratio, **changes}) for ratio in ratios]


def test_ledger_round_trip_and_torn_lines(tmp_path: Path, machine: Machine) -> None:
    record = record_of(machine)
    items = reconcile(record, train_seconds=66, total_seconds=110)
    append_ledger(tmp_path / "runs", ledger_entries("demo-001", record, items))
    with open(tmp_path / "runs" / LEDGER_FILE, "a") as file:
        file.write('{"run_id": "torn\n{}\nnot json\n\n')
    append_ledger(tmp_path / "runs", ledger_entries("demo-002", record, items[:1]))
    entries = read_ledger(tmp_path / "runs")
    assert [(entry.run_id, entry.quantity, entry.actual) for entry in entries] == [
        ("demo-001", "train_seconds", 66.0),
        ("demo-001", "total_seconds", 110.0),
        ("demo-002", "train_seconds", 66.0),
    ]
    assert entries[0].device == record.device
    assert read_ledger(tmp_path / "nothing") == ()


def test_four_runs_are_not_enough_and_other_runs_do_not_count() -> None:
    def learned(entries: list[LedgerEntry]) -> object:
        return learned_factors(entries, device="d", method="lora", probed=True)

    assert learned(entries_of([1.0] * 4)) is None
    assert learned(entries_of([1.0] * 5)) is not None
    for other in ({"device": "e"}, {"method": "full"}, {"probed": False}, {"quantity": "total_seconds"}):
        assert learned(entries_of([1.0] * 5, **other)) is None


def test_steady_runs_narrow_the_interval_and_say_so() -> None:
    factors = learned_factors(entries_of([1.0, 1.02, 0.98, 1.01, 0.99]), device="d", method="lora", probed=True)
    assert factors is not None
    assert 0.9 < factors.low < 1 < factors.high < 1.1
    assert "5 earlier lora runs" in factors.reason


def test_slow_runs_move_the_interval_up_but_it_holds_the_expected_value() -> None:
    factors = learned_factors(entries_of([1.4, 1.5, 1.6, 1.5, 1.45]), device="d", method="lora", probed=True)
    assert factors is not None
    assert factors.low == 1.0
    assert 1.5 < factors.high < 1.9


def test_learned_interval_holds_nine_of_ten_next_runs() -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(2000):
        ratios = [rng.lognormvariate(0.0, 0.15) for _ in range(6)]
        factors = learned_factors(entries_of(ratios[:5]), device="d", method="lora", probed=True)
        assert factors is not None
        held += factors.low <= ratios[5] <= factors.high
    assert 0.88 <= held / 2000 <= 0.95


def test_runs_of_another_engine_version_do_not_speak_for_this_one() -> None:
    entries = [entry.model_copy(update={"engine": "flat-1"}) for entry in entries_of([1.4, 1.5, 1.6, 1.5, 1.45])]
    asked = {"device": "d", "method": "lora", "probed": True}
    assert learned_factors(entries, **asked, engine="flat-1") is not None
    assert learned_factors(entries, **asked, engine="flat-2") is None and learned_factors(entries, **asked) is None
