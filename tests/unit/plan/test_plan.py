"""The plan of a job as a whole: monotone, complete, honest about what it rests on, quick and without torch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.errors import ConfigError, DataError
from foretune.hardware import Machine
from foretune.plan import Lengths, append_ledger, plan
from foretune.plan.ledger import LedgerEntry
from foretune.records.plan import Estimate, PlanRecord
from foretune.units import GIB

from .conftest import LLAMA_7B, gpu_machine, lengths_of, llama, probe_of

SRC = Path(__file__).parents[3] / "src"


def job_of(**train: Any) -> JobConfig:
    return JobConfig.model_validate({"train": train, "plan": {"price_per_hour_usd": 2.0}})


def planned(machine: Machine, job: JobConfig | None = None, **changes: Any) -> PlanRecord:
    values: dict[str, Any] = {"base_config": llama(), "lengths": lengths_of(), "machine": machine}
    return plan(job or job_of(), **values | changes)


def test_arithmetic_with_a_probe(machine: Machine) -> None:
    lengths = Lengths(train=[100] * 64, validation=[50] * 8)
    record = planned(machine, job_of(epochs=2), lengths=lengths, probe=probe_of())
    assert (record.num_steps, record.micro_batch_size, record.grad_accum_steps) == (8, 16, 1)
    # 8 passes over 16 x 99 tokens (the last is only predicted) at 10 ms + 20 us a token, and 8 updates of 4 ms
    assert record.train_seconds.expected == pytest.approx(8 * (0.01 + 16 * 99 * 2e-5) + 8 * 0.004, rel=1e-3)
    assert record.train_seconds.low == pytest.approx(0.8 * record.train_seconds.expected, rel=1e-3)
    # 9 validations of 8 x 50 tokens at 10 us, 9 checkpoints of 20 ms, 3 loads of 0.5 s, no test samples
    others = 9 * 8 * 50 * 1e-5 + 9 * 0.02 + 3 * 0.5
    assert record.total_seconds.expected == pytest.approx(record.train_seconds.expected + others, rel=1e-3)
    assert record.num_train_tokens == 6400
    assert record.tokens_per_second.expected == pytest.approx(2 * 6400 / record.train_seconds.expected)
    assert record.cost_usd.expected == pytest.approx(record.total_seconds.expected / 1800)
    assert (record.total_parameters, record.trainable_parameters) == (3_234_624, 75_264)
    assert record.probed and record.device == "Testchip (2 threads)"


@pytest.mark.parametrize("probe", [None, probe_of()], ids=["calculated", "probed"])
@pytest.mark.parametrize("method", ["lora", "full", "prompt", "classify", "pretrain"])
def test_every_method_has_a_whole_plan(method: str, probe: Any, machine: Machine) -> None:
    record = planned(machine, job_of(method=method), probe=probe)
    for estimate in (record.train_seconds, record.total_seconds, record.peak_memory_gb, record.tokens_per_second):
        assert 0 < estimate.low < estimate.expected < estimate.high
    assert record.total_seconds.expected > record.train_seconds.expected
    assert record.trainable_parameters <= record.total_parameters
    assert record.disk_bytes > 12 * record.trainable_parameters
    assert record.fits
    assert len(record.assumptions) >= 4


def test_trainable_parameters_by_method(machine: Machine) -> None:
    def trainable(method: str) -> int:
        return planned(machine, job_of(method=method, rank=4), base_config=LLAMA_7B).trainable_parameters

    assert trainable("lora") == 8_388_608 // 4
    assert trainable("full") == trainable("pretrain") == 6_738_415_616
    assert trainable("prompt") == 16 * 4096
    assert trainable("classify") == 8_388_608 // 4 + 3 * 4096


@pytest.mark.req("R041")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_time_grows_with_parameters_and_tokens(method: str, machine: Machine) -> None:
    def seconds(**changes: Any) -> float:
        return planned(machine, job_of(method=method), **changes).train_seconds.expected

    models = [llama(128), llama(192), llama(192, layers=9), llama(256, layers=9, ffn=1024)]
    by_model = [seconds(base_config=config) for config in models]
    assert by_model == sorted(by_model) and len(set(by_model)) == len(models)
    by_samples = [seconds(lengths=lengths_of(samples=number)) for number in (100, 200, 400, 1600)]
    assert by_samples == sorted(by_samples) and by_samples[-1] > 10 * by_samples[0]
    by_tokens = [seconds(lengths=lengths_of(tokens=number)) for number in (50, 100, 200)]
    assert by_tokens == sorted(by_tokens) and by_tokens[-1] > 2 * by_tokens[0]


@pytest.mark.req("R068")
def test_cost_grows_with_data_model_and_time(machine: Machine) -> None:
    def cost(train: dict[str, Any] | None = None, **changes: Any) -> float:
        return planned(machine, job_of(**(train or {})), **changes).cost_usd.expected

    usual = cost()
    assert cost(lengths=lengths_of(samples=800)) > usual
    assert cost(base_config=llama(256)) > usual
    assert cost({"epochs": 5}) > usual
    dear = JobConfig.model_validate({"plan": {"price_per_hour_usd": 4.0}})
    assert planned(machine, dear).cost_usd.expected == pytest.approx(2 * usual)


def test_your_own_machine_costs_nothing_and_that_is_said(machine: Machine) -> None:
    record = planned(machine, JobConfig())
    assert record.cost_usd.high == 0
    assert any("your own machine: $0" in line for line in record.assumptions)


def test_fits_is_judged_by_the_high_end() -> None:
    small = gpu_machine("Tesla T4", 16)
    record = planned(small, job_of(method="full"), base_config=LLAMA_7B)
    assert not record.fits
    assert any("may not fit" in warning for warning in record.warnings)
    tight = planned(small)
    edge = int(1e9 * (tight.peak_memory_gb.expected + tight.memory_components["runtime"] / 1e9) * 1.01)
    short = Machine("x", 2, 1e9, 8, GIB, edge, GIB, ())
    assert not planned(short).fits


def test_budget_and_disk_warnings(machine: Machine) -> None:
    job = JobConfig.model_validate({"plan": {"price_per_hour_usd": 900.0, "max_cost_usd": 0.5, "max_hours": 0.001}})
    no_disk = Machine("x", 2, 1e9, 8, 16 * GIB, 8 * GIB, 1000, ())
    warnings = " ".join(planned(no_disk, job).warnings)
    for part in ("max_cost_usd $0.50", "max_hours 0.001", "of disk"):
        assert part in warnings


def test_what_it_rests_on_is_said(machine: Machine) -> None:
    calculated, probed = planned(machine), planned(machine, probe=probe_of())
    assert any("calculated from FLOPs" in line for line in calculated.assumptions)
    assert any("measured in 6 real passes" in line for line in probed.assumptions)
    ratio = calculated.train_seconds.high / calculated.train_seconds.low
    assert ratio > 2 * probed.train_seconds.high / probed.train_seconds.low
    odd = planned(machine, base_config={**llama(), "model_type": "brandnew"})
    assert any("as if it were a Llama" in line for line in odd.assumptions)


def test_the_ledger_of_the_machine_sets_the_interval(machine: Machine, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "demo-001"
    run_dir.mkdir(parents=True)
    before = planned(machine, probe=probe_of(), run_dir=run_dir)
    assert PlanRecord.read(run_dir) == before
    steady = [
        LedgerEntry(
            run_id=f"demo-{number}",
            device=before.device,
            method="lora",
            base="pebble",
            probed=True,
            quantity="train_seconds",
            predicted=Estimate(low=80, expected=100, high=130),
            actual=actual,
            engine=before.engine,
        )
        for number, actual in enumerate((101, 99, 103, 97, 100, 102))
    ]
    append_ledger(run_dir.parent, steady)
    after = planned(machine, probe=probe_of(), run_dir=run_dir)
    assert after.train_seconds.high / after.train_seconds.low < 1.25
    assert before.train_seconds.high / before.train_seconds.low > 1.6
    assert any("6 earlier lora runs on this device" in line for line in after.assumptions)


def test_a_busy_machine_widens_the_interval_and_warns(machine: Machine) -> None:
    calm, busy = (planned(replace(machine, load_average=load), probe=probe_of()) for load in (2.0, 5.0))
    assert calm.train_seconds.expected == busy.train_seconds.expected
    assert busy.train_seconds.low < calm.train_seconds.low < calm.train_seconds.high < busy.train_seconds.high
    assert any("load 5.0 on 2 cores" in warning for warning in busy.warnings)
    assert not calm.warnings


def test_warnings_of_derived_settings_are_carried(machine: Machine) -> None:
    assert any("rank 64" in warning for warning in planned(machine, job_of(rank=64)).warnings)


def test_nothing_to_train_on_and_a_wrong_target(machine: Machine) -> None:
    with pytest.raises(DataError, match="no training samples"):
        planned(machine, lengths=Lengths(train=[]))
    with pytest.raises(ConfigError, match="matches no linear layer"):
        planned(machine, job_of(advanced={"target_modules": ["nope"]}))


def test_t5_and_gpt2_can_be_planned(machine: Machine) -> None:
    t5 = {"model_type": "t5", "vocab_size": 99, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    gpt2 = {"model_type": "gpt2", "vocab_size": 99, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 80}
    assert planned(machine, base_config=t5).max_seq_len == 149
    record = planned(machine, base_config=gpt2)
    assert record.max_seq_len == 80
    assert any("the model takes 80" in warning for warning in record.warnings)


def test_a_plan_takes_less_than_a_second_without_torch() -> None:
    code = """
import sys, time
from foretune.config import JobConfig
from foretune.models.base import base_config, resolve_base
from foretune.plan import Lengths, plan
lengths = Lengths([100] * 20_000, [90] * 500, [90] * 500)
plan(JobConfig(), base_config=base_config(resolve_base("pebble")), lengths=lengths)
heavy = {"torch", "transformers", "scipy", "peft", "pandas"} & set(sys.modules)
assert not heavy, heavy
print(time.process_time())
"""
    env = {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 1.0
