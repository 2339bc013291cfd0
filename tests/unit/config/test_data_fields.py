"""The data section of a job: dates, languages and preferences are checked as the job is read."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foretune.config.examples import example_job, example_named, examples
from foretune.config.job import AdvancedData, JobConfig
from foretune.config.read import read_job
from foretune.config.write import job_toml
from foretune.errors import ConfigError


def job_with(path: Path, **data: Any) -> JobConfig:
    named = {f"advanced.{name}" if name in AdvancedData.model_fields else name: value for name, value in data.items()}
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in named.items()]
    path.write_text("[data]\n" + "\n".join(lines) + "\n")
    return read_job(path)


def test_the_fields_are_read_and_written(tmp_path: Path) -> None:
    values = {"time_field": "date", "train_until": "2025-01-01", "on_fault": "reject", "noisy_test": 0.1}
    job = job_with(tmp_path / "job.toml", **values, languages=["en", "de:0.3"], mix_path="general.jsonl")
    assert job.data.language_shares == {"en": 0.0, "de": 0.3} and job.data.advanced.mix_fraction == 0.15
    (tmp_path / "again.toml").write_text(job_toml(job))
    assert read_job(tmp_path / "again.toml") == job


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_until": "2025-01-01"}, "train_until needs time_field"),
        ({"time_field": "date", "test_path": "test.jsonl"}, "leave validation_path and test_path empty"),
        ({"languages": ["english"]}, "'english' is no language"),
        ({"languages": ["de:30"]}, "'de:30' is no language"),
        ({"on_fault": "ignore"}, "'stop' or 'reject'"),
        ({"noisy_test": 2.0}, "less than or equal to 1"),
        ({"task": "dpo"}, "preference"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job_with(tmp_path / "job.toml", **values)
    assert said in caught.value.what and "job.toml" in caught.value.what


@pytest.mark.req("R024")
def test_use_cases_without_data_have_a_goal_a_metric_and_a_job_that_reads(tmp_path: Path) -> None:
    from foretune.evaluate.scorers.registry import find_scorer

    names = {example.name for example in examples()}
    assert {"sarcasm-detection", "paper-summary", "legal-analysis", "hospital-chat"} <= names
    for example in examples():
        (tmp_path / "job.toml").write_text(example_job(example))
        job = read_job(tmp_path / "job.toml")
        assert (job.name, job.data.path) == (example.name, f"data/{example.name}.jsonl")
        assert job.evaluate.primary_metric == example.metric and example.goal.endswith(".") and example.why
        assert find_scorer(example.metric).higher_is_better
    assert example_named("nothing") is None
