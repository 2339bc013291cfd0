"""A job written as TOML reads back equal."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.config import JobConfig
from foretune.config.write import job_toml

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)


def test_only_what_differs_from_the_defaults_is_written() -> None:
    job = JobConfig.model_validate({"train": {"rank": 8, "advanced": {"warmup_fraction": 0.0}}})
    assert job_toml(job, comment="two\nlines") == (
        '# two\n# lines\nname = "job"\nbase = "pebble"\nseed = 0\n\n[train]\nrank = 8\n\n'
        "[train.advanced]\nwarmup_fraction = 0.0\n"
    )


@settings(max_examples=200, deadline=None)
@given(
    path=TEXT,
    system=TEXT,
    rate=st.floats(0, 1e30, allow_nan=False),
    shots=st.lists(st.integers(0, 99), max_size=3),
    instructions=st.lists(TEXT, max_size=3),
)
def test_a_job_reads_back_equal(path: str, system: str, rate: float, shots: list[int], instructions: list[str]) -> None:
    job = JobConfig.model_validate(
        {
            "data": {"path": path, "system": system},
            "train": {"learning_rate": rate},
            "evaluate": {"few_shot": shots, "instructions": instructions},
        }
    )
    assert JobConfig.model_validate(tomllib.loads(job_toml(job))) == job
