"""The checks that a job declares: languages, outdated terms, and production against training and test."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foretune.audit.coverage.record import CoverageRecord
from foretune.audit.declared import declared_checks, production_check
from foretune.audit.subject import Subject
from foretune.config.job import AdvancedData, DataConfig
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, NotFound

TOPICS = {
    "refund": "please refund my money for order {} because it was too late".split(),
    "parcel": "where is my parcel with the number {} that you sent last week".split(),
    "login": "my password and login for the account {} do not work any more".split(),
}


def asked(counts: dict[str, int], seed: int = 0) -> list[Sample]:
    """Queries of topics, words in changing order."""
    rng = np.random.default_rng(seed)
    samples = []
    for topic, count in counts.items():
        for number in range(count):
            words = [TOPICS[topic][i] for i in rng.permutation(len(TOPICS[topic]))[:9]]
            text = " ".join(words).format(rng.integers(10_000))
            samples.append(Sample(f"{topic}{seed}{number}", (Message("user", text), Message("assistant", "done"))))
    return samples


def subject(train: list[Sample], test: list[Sample]) -> Subject:
    return Subject({"train": train, "test": test}, task="chat", tokenizer=None, max_seq_len=0)


@pytest.mark.req("R122")
def test_a_test_split_unlike_production_is_told_with_its_divergence(tmp_path: Path) -> None:
    production = asked({"refund": 150, "parcel": 150, "login": 100}, seed=1)
    same = {"refund": 75, "parcel": 75, "login": 50}
    good = {f.id: f for f in production_check(subject(asked(same, 2), asked(same, 3)), production, run_dir=tmp_path)}
    assert good["DATA115"].severity == "info" and "is distributed like production (JS 0.0" in good["DATA115"].title
    assert "DATA110" not in good and CoverageRecord.read(tmp_path).num_production == 400
    one = {"refund": 200}
    bad = {f.id: f for f in production_check(subject(asked(one, 2), asked(one, 3)), production)}
    assert bad["DATA115"].severity == "warning" and bad["DATA115"].effect > 0.2
    assert "not distributed like production" in bad["DATA115"].title and "PSI" in bad["DATA115"].title
    assert bad["DATA110"].severity == "warning" and "examples needed" in bad["DATA110"].title


def test_too_few_queries_say_so() -> None:
    (found,) = [
        f
        for f in production_check(subject(asked({"refund": 50}), asked({"refund": 9})), asked({"refund": 5}, 1))
        if f.id == "DATA115"
    ]
    assert found.severity == "info" and "too few to compare" in found.title


def test_a_job_gets_the_checks_that_it_declares(tmp_path: Path) -> None:
    assert declared_checks(DataConfig(), tmp_path) == []
    (tmp_path / "terms.txt").write_text("Twitter => X\n")
    data = DataConfig(languages=("en", "de:0.5"), advanced=AdvancedData(outdated_terms="terms.txt"))
    turns = (
        Message("user", "what did the people write there on Twitter?"),
        Message("assistant", "that it is the best"),
    )
    rows = [Sample(f"s{n}", turns, place=f"a.jsonl:{n}") for n in range(30)]
    found = {f.id for check in declared_checks(data, tmp_path) for f in check(subject(rows, []))}
    assert found == {"DATA055", "DATA056"}
    with pytest.raises(NotFound):
        declared_checks(DataConfig(advanced=AdvancedData(outdated_terms="none.txt")), tmp_path)
    (tmp_path / "terms.toml").write_text("[[term]]\nregex = '('\n")
    with pytest.raises(ConfigError):
        declared_checks(DataConfig(advanced=AdvancedData(outdated_terms="terms.toml")), tmp_path)
