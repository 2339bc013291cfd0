"""Guard metrics: a gain that costs too much of another metric is no gain, and one that is not proven free waits."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foretune.errors import ConfigError

Run = Any  # the fake run of conftest.py


LENIENT = "def lenient(prediction, target):\n    return float(prediction in ('?', target))\n"


@pytest.mark.req("R287")
def test_a_gain_counts_where_its_guard_holds(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["advanced"]["guards"] = ["contains=0.02"]
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert record.verdict == "better" and "contains holds: at worst" in record.reason
    assert "contains" in record.system("fine_tuned").metrics


@pytest.mark.req("R287")
def test_a_gain_that_costs_too_much_of_a_guard_is_none(fake_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_run.folder)
    (fake_run.folder / "guard_metric.py").write_text(LENIENT)
    fake_run.settings["evaluate"] |= {"primary_metric": "guard_metric:lenient"}
    fake_run.tuned.answer = lambda prompt: "?"
    fake_run.write_questions()
    assert fake_run.evaluate().verdict == "better"  # the metric that decides takes a question mark for an answer
    fake_run.settings["evaluate"]["advanced"]["guards"] = ["contains=0.1"]
    record = fake_run.evaluate(reuse_test=True)
    assert record.verdict == "not_better" and record.delta.ci_low > 0
    assert "The gain comes at a price" in record.reason and "contains is breached" in record.reason


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ("contains", "not of the form METRIC=LOSS"),
        ("contains=0", "not of the form METRIC=LOSS"),
        ("contains=much", "not of the form METRIC=LOSS"),
        ("length_chars=5", "more of it is not better"),
        ("accuracy=0.1", "decides already"),
    ],
)
def test_a_guard_that_is_none_is_refused(fake_run: Run, guard: str, said: str) -> None:
    from foretune.evaluate.preflight import check_evaluation

    fake_run.settings["evaluate"] |= {"primary_metric": "accuracy", "advanced": {"guards": [guard]}}
    with pytest.raises(ConfigError, match=said):
        check_evaluation(fake_run.job, fake_run.folder)


def test_a_guard_is_fixed_before_training(fake_run: Run) -> None:
    from foretune.evaluate.later import with_shown

    with pytest.raises(ConfigError, match="guards was fixed before training"):
        with_shown(fake_run.job, {"evaluate.advanced.guards": ["contains=0.1"]}, "accuracy")
