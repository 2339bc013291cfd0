"""What an evaluation would stumble over is said before anything is trained, all of it at once."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foretune.config.job import JobConfig
from foretune.errors import ConfigError, NotFound, ScoreError
from foretune.evaluate.preflight import check_evaluation


def check(folder: Path, **evaluate: Any) -> None:
    """Check a job with these settings of [evaluate]."""
    check_evaluation(JobConfig.model_validate({"data": {"path": "data.jsonl"}, "evaluate": evaluate}), folder)


@pytest.mark.parametrize(
    ("evaluate", "error", "said"),
    [
        ({"scorers": ["length"]}, ScoreError, "no scorer 'length'"),
        ({"scorers": ["code_runs"]}, ScoreError, "runs the answers as Python, which is off"),
        ({"json_schema": "none.json"}, NotFound, "no JSON schema"),
        ({"documents": "none"}, NotFound, "no documents"),
        ({"endpoints": ["localhost"]}, ConfigError, "not of the form URL#model"),
        ({"judge": "localhost"}, ConfigError, "not of the form URL#model"),
        ({"endpoints": ["http://h/v1#m"], "advanced": {"endpoint_prices": ["m"]}}, ConfigError, "the price 'm'"),
    ],
)
def test_one_fault_is_raised_as_it_is(
    tmp_path: Path, evaluate: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        check(tmp_path, **evaluate)


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, scorers=["length", "exact_match"], documents="none", judge="localhost")
    told = caught.value.what
    assert told.startswith("3 faults in [evaluate]:")
    assert all(part in told for part in ("'length'", "did you mean length_words?", "no documents", "'localhost'"))


def test_a_sound_job_passes_and_nobody_is_asked(tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("Paris is a city.")
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "own.py").write_text("def score(prediction, target): return 1.0")
    check(
        tmp_path,
        scorers=["rouge_l", "code_runs"],
        documents="docs.txt",
        json_schema="schema.json",
        endpoints=["http://127.0.0.1:9/v1#nobody"],
        judge="http://127.0.0.1:9/v1#nobody",
        advanced={"run_code": True},
    )
