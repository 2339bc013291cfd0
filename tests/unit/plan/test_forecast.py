"""Requests without a job: what is filled in, what is refused, the forecast's parts, batches, offers and scorecards."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from foretune.config import JobConfig
from foretune.errors import ConfigError, DataError, DoesNotFit, GateRefused
from foretune.models.base import resolve_base
from foretune.plan.answer import answer, request_of_job, requested_setup
from foretune.plan.batch import forecast_table
from foretune.plan.choice import Limits, goal_named, is_stale, offers
from foretune.plan.launch import sky_task
from foretune.plan.ledger import LedgerEntry, append_ledger
from foretune.plan.project import outlook, questions, read_project
from foretune.plan.request import parameter_count, plan_request
from foretune.plan.scorecard import scorecard
from foretune.records.plan import Estimate

LLAMA: dict[str, Any] = {"base": "llama-2-7b", "gpu": "A100-80", "num_examples": 5000, "tokens_per_example": 512}
COLUMNS = ("id", "model", "params_b", "method", "gpu", "n_gpus", "seq_len", "micro_batch", "precision/quantization")


@pytest.mark.parametrize(
    ("text", "count"), [("7B", 7e9), ("1.5b", 1.5e9), ("350M", 350e6), ("6,738,415,616", 6738415616), ("2e9", 2e9)]
)
def test_sizes_as_people_write_them(text: str, count: float) -> None:
    assert parameter_count(text) == count


@pytest.mark.parametrize("text", ["", "7X", "-7B", "0", "nan", "9e99B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--params"):
        parameter_count(text)


def test_lora_on_llama_has_the_known_number_of_parameters() -> None:
    forecast = answer(plan_request(**LLAMA))
    assert forecast.total_parameters == 6_738_415_616
    assert forecast.fits is True
    assert forecast.peak_memory_gb.low < forecast.peak_memory_gb.expected < forecast.peak_memory_gb.high
    assert sum(forecast.memory_components.values()) == pytest.approx(forecast.peak_memory_gb.expected * 1e9, rel=0.01)
    assert forecast.train_hours is not None and 0.2 < forecast.train_hours.expected < 5
    assert any("micro-batch size not given" in line for line in forecast.assumptions)


def test_what_is_given_is_not_assumed() -> None:
    given = plan_request(**LLAMA, method="lora", micro_batch_size=2, max_seq_len=512, rank=8, epochs=1, num_gpus=1)
    setup, said = requested_setup(given)
    assert (setup.micro_batch_size, setup.max_seq_len, setup.rank, setup.epochs) == (2, 512, 8, 1)
    assert not any("method" in line or "micro-batch" in line or "longest row" in line for line in said)


def test_full_tuning_of_70b_on_a_t4_says_what_would_fit() -> None:
    forecast = answer(plan_request(params=70e9, method="full", gpu="T4"))
    assert forecast.fits is False
    suggestions = [line for line in forecast.warnings if line.startswith("would fit")]
    assert suggestions and "--gpu" in suggestions[-1]
    assert forecast.train_hours is None and forecast.tokens_per_second is not None


def test_twice_the_examples_take_twice_the_time() -> None:
    one, two = (answer(plan_request(**{**LLAMA, "num_examples": n})) for n in (5000, 10000))
    assert one.train_hours is not None and two.train_hours is not None
    assert two.train_hours.expected / one.train_hours.expected == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"base": "lama-2-7b", "gpu": "H100"}, "did you mean"),
        ({"base": "llama-2-7b", "gpu": "H10O"}, "did you mean `H100`"),
        ({"gpu": "H100"}, "neither a model nor its size"),
        ({"base": "llama-2-7b", "num_examples": -5}, "--num-examples -5"),
        ({"base": "llama-2-7b", "micro_batch_size": 0}, "--micro-batch-size 0"),
        ({"base": "llama-2-7b", "precision": "bf61"}, "--precision bf61"),
        ({"base": "llama-2-7b", "price_per_gpu_hour": -1.0}, "--price-per-gpu-hour -1"),
        ({"base": "llama-2-7b", "num_gpus": 10**30}, "--num-gpus"),
    ],
)
def test_wrong_values_are_one_clear_error(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        answer(plan_request(**values))


def test_rows_longer_than_the_positions_are_warned_of() -> None:
    forecast = answer(plan_request(**LLAMA, max_seq_len=8192))
    assert any("longer than the model's 4,096 positions" in line for line in forecast.warnings)


def test_an_unknown_architecture_is_estimated_and_said(tmp_path: Path) -> None:
    config = {"model_type": "newlm", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 128, "vocab_size": 500}))
    forecast = answer(plan_request(base=str(tmp_path), gpu="L4"))
    assert any("as if it were a Llama" in line for line in forecast.assumptions)


def test_real_lengths_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"row {n}", "completion": "yes " * (n % 50 + 1)}) + "\n" for n in range(1, 200))
    )
    setup, said = requested_setup(plan_request(base="pebble", gpu="L4"), data=file)
    assert setup.num_examples == 199
    assert 10 < setup.mean_tokens < 100 and setup.max_seq_len >= 50
    assert not any("characters" in line for line in said)


def test_a_job_is_a_request_that_flags_overrule() -> None:
    job = JobConfig.model_validate({"base": "pebble", "train": {"method": "classify", "epochs": 2.0, "rank": 8}})
    request, data = request_of_job(job, Path("."), plan_request(gpu="L4", rank=4))
    assert (request.method, request.epochs, request.rank, request.gpu) == ("lora", 2.0, 4, "L4")
    assert data is None
    assert answer(request).total_parameters == answer(plan_request(base=str(resolve_base("pebble")))).total_parameters


def write_table(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, sorted({name for row in rows for name in row} | set(COLUMNS)))
        writer.writeheader()
        writer.writerows(rows)
    return path


ROW = {"id": "a", "model": "Llama-2 7B", "method": "lora", "gpu": "A100-80", "n_gpus": "1", "micro_batch": "1"}


def test_a_table_gets_an_answer_or_an_error_for_every_row(tmp_path: Path) -> None:
    table = write_table(tmp_path / "rows.csv", ROW, {**ROW, "id": "b", "seq_len": "x1"}, {"id": "c"})
    good, bad, empty = forecast_table(table)
    assert good["id"] == "a" and good["fits"] is True and good["peak_memory_gb"]["expected"] > 13
    assert "seq_len" in bad["error"] and "model" in empty["error"]


def test_a_measured_run_calibrates_the_rows_like_it(tmp_path: Path) -> None:
    rows = [{**ROW, "seq_len": str(length)} for length in (512, 1024, 2048)]
    table = write_table(tmp_path / "rows.csv", *rows, {**ROW, "gpu": "H100", "seq_len": "512"})
    measured = write_table(tmp_path / "m.csv", {**rows[0], "peak_mem_gb": "25", "tokens_per_s_total": "9000"})
    plain, known = forecast_table(table), forecast_table(table, measured)
    before, after = (abs(rows[0]["peak_memory_gb"]["expected"] - 25) for rows in (plain, known))
    assert after < 0.7 * before
    assert known[0]["tokens_per_second"]["expected"] == pytest.approx(9000, rel=0.1)
    assert known[2]["peak_memory_gb"]["expected"] > plain[2]["peak_memory_gb"]["expected"]
    assert known[3] == plain[3]  # another device: not alike


def test_a_table_without_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column `model`"):
        forecast_table(tmp_path / "rows.csv")


def test_offers_keep_the_limits_and_name_the_cheapest() -> None:
    setup, _ = requested_setup(plan_request(**LLAMA))
    found = offers(setup, limits=Limits(max_hours=24, max_cost_usd=50), methods=("lora", "qlora"))
    first = found[0]
    assert first.is_chosen and first.is_pareto and "cheapest" in first.reason
    firm = [offer for offer in found if offer.is_recommended and not is_stale(offer)]
    costs = [offer.cost_usd.expected for offer in firm if offer.cost_usd]
    assert costs == sorted(costs) and all(offer.fits for offer in found) and found[: len(firm)] == firm
    assert all(offer.train_hours and offer.train_hours.high <= 24 for offer in found)
    fastest = offers(setup, goal="fastest")[0]
    assert fastest.train_hours and first.train_hours and fastest.train_hours.expected <= first.train_hours.expected
    smallest = offers(setup, goal="smallest", methods=("qlora",))[0]
    assert smallest.peak_memory_gb and smallest.peak_memory_gb.high < 24
    assert f"accelerators: {first.device.split()[0][:4]}" in sky_task(first)


def test_no_offer_says_what_comes_nearest() -> None:
    setup, _ = requested_setup(plan_request(**LLAMA))
    with pytest.raises(GateRefused, match="the cheapest may cost"):
        offers(setup, limits=Limits(max_cost_usd=0.001))
    huge, _ = requested_setup(plan_request(params=5e12, method="full", gpu="H100"))
    with pytest.raises(DoesNotFit, match="no priced device"):
        offers(huge)
    with pytest.raises(ConfigError, match="cheapest, fastest, smallest"):
        goal_named("nicest")


def test_the_scorecard_counts_hits_and_misses(tmp_path: Path) -> None:
    predicted = Estimate(low=80, expected=100, high=120)
    common: dict[str, Any] = {
        "device": "cpu",
        "method": "lora",
        "base": "pebble",
        "probed": True,
        "predicted": predicted,
    }
    entries = [
        LedgerEntry(run_id=str(n), quantity="train_seconds", actual=a, **common) for n, a in enumerate((100, 110, 200))
    ]
    append_ledger(tmp_path, entries)
    (score,) = scorecard(tmp_path)
    assert (score.num_runs, score.held, score.near) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert score.median_error == pytest.approx(10 / 110) and score.worst_error == 0.5
    assert scorecard(tmp_path / "none") == ()


def test_the_questions_are_a_project_file(tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    file.write_text(questions())
    around = outlook(read_project(file))
    assert around.advice.options and around.payback is None
    assert 20 <= around.timeline.total_days.low <= around.timeline.total_days.high <= 30


@pytest.mark.req("R418")
def test_a_project_with_money_gets_a_payback(tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    money = "queries_per_month = 1e6\nusd_per_query = 0.01\ntuned_usd_per_query = 0.002\ntraining_usd = 100\n"
    file.write_text(f"[situation]\ngoal = 'json'\nnum_examples = 2000\n[money]\n{money}labour_usd_per_hour = 100\n")
    payback = outlook(read_project(file)).payback
    assert payback is not None and payback.monthly_saving == pytest.approx(8000)
    assert payback.payback_training_only < payback.payback_with_labour < 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[situtation]\n", "did you mean \\[situation\\]"),
        ("[money]\nquerys_per_month = 1\n", "did you mean `queries_per_month`"),
        ("[money]\nqueries_per_month = 'many'\n", "expected a number"),
        ("[situation]\ngoal = 'jsn'\n", "goal"),
        ("[timeline]\nnum_annotators = 0\n", "num_annotators"),
        ("x = \n", "not valid TOML"),
    ],
)
def test_a_faulty_project_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "project.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_project(file)
