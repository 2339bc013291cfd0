"""Why the prompted base fails: planted failures of each kind are named, chance is taken off, nothing is opened."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foretune.data.ledger import TestLedger
from foretune.data.samples import Sample
from foretune.errors import ConfigError, DataError
from foretune.evaluate.failure_kinds import measure_failures
from foretune.evaluate.gold import Form, form_of, form_told, gold_context, readings
from foretune.evaluate.kinds import Asked, kind_shares, kinds_of, left_to_context
from foretune.records.failures import FailuresRecord

from .conftest import LABELS, question, thing

Run = Any
FACT = "These passages may help"
STATED = "exactly one of these labels"


def test_shares_add_up_and_chance_is_taken_off() -> None:
    zero = np.zeros(100)
    layout, facts, placebo = zero.copy(), zero.copy(), zero.copy()
    layout[:20], facts[20:55] = 1, 1
    found = kind_shares(Asked(zero, zero, layout, facts, placebo))
    assert found.format and found.knowledge and found.behaviour
    assert (found.format.value, found.knowledge.value) == pytest.approx((0.2, 0.35))
    assert found.behaviour.value == pytest.approx(0.45) and found.behaviour.ci_low < 0.45 < found.behaviour.ci_high
    rng = np.random.default_rng(0)
    chance = [(rng.random(4000) < 0.2).astype(float) for _ in range(3)]
    nothing = np.zeros(4000)
    by_chance = kind_shares(Asked(nothing, nothing, *chance))
    assert by_chance.format and by_chance.format.value < 0.03
    assert by_chance.knowledge and by_chance.knowledge.value < 0.03
    assert by_chance.placebo and by_chance.placebo.value == pytest.approx(0.2, abs=0.03)


def test_no_failures_and_remedies_that_were_not_tried() -> None:
    assert kind_shares(Asked([1.0, 1.0], [1.0, 1.0])).behaviour is None
    alone = kind_shares(Asked([0.0, 0.0], [1.0, 0.0]))
    assert alone.format and alone.format.value == 0.5 and alone.knowledge is None
    assert kinds_of(Asked([0.0, 0.0, 0.0], [1, 0, 0], [0, 0, 0], [1, 1, 0])) == ["format", "knowledge", "behaviour"]
    assert left_to_context([1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]).value == pytest.approx(0.25)


def test_lenient_readings() -> None:
    labels = Form("labels", LABELS)
    assert "green" in readings("I think the answer is: Green, surely", labels)
    assert not any(text in LABELS for text in readings("blue or gold", labels))
    assert '{"a": 1}' in readings('Here you are: {"a": 1}. Bye', Form("json"))
    assert "1234" in readings("that makes 1,234", Form("number"))
    assert "Paris" in readings('"Paris."', Form("text"))
    assert form_of(['{"a": 1}', '{"a": 2}'], None).kind == "json" and form_of(["3", "4.5"], None).kind == "number"
    assert "blue" in form_told(labels, LABELS) and "JSON" in form_told(Form("json"), ['{"a": 1}'])


def test_facts_come_from_the_row_else_from_examples_and_never_for_labels() -> None:
    rows = [replace(question(number), meta={"context": f"thing {number} is painted"}) for number in range(4)]
    gold = gold_context(rows, [], None, None)
    assert gold.source == "field" and gold.passages(rows[0], 3) == ["thing 0 is painted"]
    assert gold.turned().passages(rows[0], 3) == ["thing 1 is painted"]
    plain = [question(number) for number in range(4)]
    assert gold_context(plain, plain, None, None).source == "examples"
    assert gold_context(plain, plain, None, LABELS).source == "none"


def fails_by(kind: Callable[[int], str]) -> Callable[[str], str]:
    """A base that names the colour unless the thing's kind of failure stands in the way."""

    def answer(prompt: str) -> str:
        number = thing(prompt)
        right = LABELS[number % 3]
        why = kind(number)
        if why == "format":
            return right if STATED in prompt else f"it is {right} or {LABELS[(number + 1) % 3]}"
        if why == "knowledge":
            return right if FACT in prompt and f"fact {number}" in prompt else "no idea"
        return "no idea" if why == "behaviour" else right

    return answer


def kind_of(number: int) -> str:
    """Half right; of 20, five lack format, three facts, two behaviour."""
    return (
        ("format", "format", "format", "format", "format", "knowledge", "knowledge", "knowledge", "behaviour")[
            number % 20
        ]
        if number % 20 < 9
        else ("behaviour" if number % 20 == 9 else "")
    )


def with_fact(sample: Sample, number: int) -> Sample:
    return replace(sample, meta={"context": f"fact {number}"})


def written(run: Run, num_validation: int = 200) -> None:
    run.write(
        [question(number) for number in range(60)],
        [with_fact(question(number), number) for number in range(100, 100 + num_validation)],
        [question(number) for number in range(2000, 2050)],
    )


def measured(run: Run, **options: Any) -> FailuresRecord:
    return measure_failures(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder, **options)


def test_planted_failures_are_named_before_anything_is_trained(fake_run: Run) -> None:
    fake_run.base.answer = fails_by(kind_of)
    written(fake_run)
    (fake_run.run_dir / "training.json").unlink()  # nothing is trained
    record = measured(fake_run)
    assert record.baseline.value == pytest.approx(0.5, abs=0.02) and record.baseline.n == 188
    assert record.format and record.format.value == pytest.approx(0.5, abs=0.03)
    assert record.knowledge and record.knowledge.value == pytest.approx(0.3, abs=0.03)
    assert record.behaviour and record.behaviour.value == pytest.approx(0.2, abs=0.03)
    assert record.context_source == "field" and record.placebo and record.placebo.value == 0
    rows = [json.loads(line) for line in (fake_run.run_dir / "failures.jsonl").read_text().splitlines()]
    assert len(rows) == record.num_failures
    wrong = [row for row in rows if row["kind"] != kind_of(int(row["sample_id"][1:]))]
    assert wrong == []
    assert not TestLedger(fake_run.runs_dir).looks(record.dataset_version)  # the test split stays sealed
    assert not any("of thing 20" in prompt and thing(prompt) >= 2000 for prompt in fake_run.base.prompts)


def test_a_killed_measurement_asks_nothing_twice(fake_run: Run) -> None:
    fake_run.base.answer = fails_by(kind_of)
    written(fake_run)
    first = measured(fake_run)
    asked = len(fake_run.base.prompts)
    again = measured(fake_run)
    assert len(fake_run.base.prompts) == asked
    assert again.model_copy(update={"seconds": first.seconds}) == first


def test_the_baseline_alone_and_too_little_to_measure(fake_run: Run) -> None:
    fake_run.base.answer = fails_by(kind_of)
    written(fake_run)
    alone = measured(fake_run, ask_again=False)
    assert alone.behaviour is None and alone.num_failures > 0 and alone.context_source == "none"
    written(fake_run, num_validation=5)
    with pytest.raises(DataError, match="5 validation samples"):
        measured(fake_run)


def test_a_metric_that_scores_no_single_answer_is_refused(fake_run: Run) -> None:
    fake_run.primary_metric = "bleu"
    written(fake_run)
    with pytest.raises(ConfigError, match="bleu"):
        measured(fake_run)
