"""Evaluation of a run: three systems on the same sealed samples, a fair baseline, a verdict, and what it leaves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from foretune.data.ledger import TestLedger
from foretune.data.noisy import write_noisy
from foretune.data.samples import Message, Sample
from foretune.data.store import DatasetStore
from foretune.errors import ConfigError, GateRefused, NotFound
from foretune.evaluate.journal import JOURNAL_FILE
from foretune.evaluate.systems import constant_answer
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.run import ResolvedRecord

Run = Any  # the fake run of conftest.py


@pytest.mark.req("R290")
@pytest.mark.req("R285")
@pytest.mark.req("R286")
def test_verdict_is_tuned_against_the_better_prompted_base(fake_run: Run) -> None:
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert [system.name for system in record.systems] == ["base_zero_shot", "base_few_shot", "constant", "fine_tuned"]
    assert [system.metrics["accuracy"].value for system in record.systems] == [0.0, 0.5, pytest.approx(1 / 3), 1.0]
    assert (record.primary_metric, record.baseline, record.candidate) == ("accuracy", "base_few_shot", "fine_tuned")
    assert record.delta.value == 0.5 and record.delta.ci_low > 0.3
    assert record.delta.p_value < 1e-6 and "McNemar" in record.delta.method
    assert (record.verdict, record.look, record.n, record.n_needed) == ("better", 1, 60, None)
    assert fake_run.loads == ["base", "fine_tuned"]
    assert EvaluationRecord.read(fake_run.run_dir) == record


@pytest.mark.req("R121")
def test_the_noisy_twin_is_scored_beside_the_clean_one(fake_run: Run) -> None:
    fake_run.write_questions()
    test = DatasetStore(fake_run.runs_dir).load(DatasetRecord.read(fake_run.run_dir).version, "test")
    write_noisy(fake_run.run_dir, test, rate=0.3, seed=1)
    usual = {"base": fake_run.base.answer, "tuned": fake_run.tuned.answer}

    def puzzled_by_noise(name: str) -> Callable[[str], str]:
        def answer(prompt: str) -> str:
            asked = prompt.rpartition("<|user|>")[2].partition("<|end|>")[0]
            return usual[name](prompt) if re.fullmatch(r"what is the colour of thing \d+\?", asked) else "x"

        return answer

    fake_run.base.answer, fake_run.tuned.answer = puzzled_by_noise("base"), puzzled_by_noise("tuned")
    record = fake_run.evaluate()
    base, tuned = record.noisy
    assert (base.system, tuned.system, tuned.metric, tuned.n) == (record.baseline, "fine_tuned", "accuracy", 60)
    assert tuned.clean == record.system("fine_tuned").metrics["accuracy"].value == 1.0
    assert tuned.noisy < 0.5 and tuned.ci_high < 0 and tuned.p_value < 1e-6
    assert fake_run.loads == ["base", "fine_tuned"] and record.verdict == "better"
    assert EvaluationRecord.read(fake_run.run_dir) == record


def test_a_noisy_split_of_other_data_is_told(fake_run: Run) -> None:
    fake_run.write_questions(num_test=9)
    write_noisy(fake_run.run_dir, [question(5)], rate=0.3, seed=1)
    record = fake_run.evaluate()
    assert record.noisy == () and any("of other data" in warning for warning in record.warnings)


@pytest.mark.req("R285")
def test_equal_systems_are_not_proven_better(fake_run: Run) -> None:
    fake_run.write_questions(num_test=20)
    fake_run.tuned.answer = lambda prompt: right_answer(prompt) if number_of(prompt) % 2 else "x"
    record = fake_run.evaluate()
    assert record.delta.ci_low < 0 < record.delta.ci_high
    assert record.verdict == "inconclusive" and record.n_needed > 20
    assert "Not proven" in record.reason


@pytest.mark.req("R285")
def test_a_classifier_that_always_says_the_same_is_not_better(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.base.answer = lambda prompt: "no idea"
    fake_run.tuned.answer = lambda prompt: "blue"
    record = fake_run.evaluate()
    constant = record.system("constant")
    assert record.baseline == "constant" and "no model" in constant.prompt and constant.generated_tokens == 0
    assert record.system("fine_tuned").metrics["accuracy"].value == pytest.approx(1 / 3)
    assert record.verdict in ("not_better", "inconclusive") and record.delta.value == pytest.approx(0.0, abs=0.01)


def test_targets_that_hardly_repeat_have_no_constant_answer(fake_run: Run) -> None:
    samples = [
        replace(question(n), messages=(Message("user", str(n)), Message("assistant", f"x{n}"))) for n in range(60)
    ]
    assert constant_answer(samples) is None
    assert constant_answer([*samples, samples[0], samples[0], samples[0]]) == "x0"


def test_worse_is_called_worse(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.tuned.answer = lambda prompt: "gold?"
    record = fake_run.evaluate()
    assert record.verdict == "worse" and record.delta.ci_high < 0


@pytest.mark.req("R281")
@pytest.mark.req("R269")
def test_every_answer_and_the_human_queue_are_on_disk(fake_run: Run) -> None:
    fake_run.write_questions(num_test=9)
    record = fake_run.evaluate()
    rows = fake_run.lines("answers.jsonl")
    assert len(rows) == 36
    row = next(row for row in rows if row["system"] == "fine_tuned" and row["sample_id"] == "q1004")
    assert row["messages"] == [
        {"role": "system", "content": "name the colour"},
        {"role": "user", "content": "what is the colour of thing 1004?"},
    ]
    assert (row["prediction"], row["expected"], row["place"]) == ("gold", "gold", "colours.jsonl:1004")
    assert row["scores"] == {"accuracy": 1.0, "exact_match": 1.0}
    queue = fake_run.lines("human_queue.jsonl")
    assert len(queue) == record.human_eval_queue == 9
    assert queue[4] == {"input": "what is the colour of thing 1004?", "prediction": "gold", "expected": "gold"}
    assert record.exact_match_rate == 1.0
    assert record.confusion == {
        "labels": ["blue", "gold", "green"],
        "counts": [[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]],
    }
    assert not (fake_run.run_dir / JOURNAL_FILE).exists()


@pytest.mark.req("R117")
def test_the_test_split_opens_once(fake_run: Run) -> None:
    fake_run.write_questions()
    first = fake_run.evaluate()
    fake_run.loads.clear()
    with pytest.raises(GateRefused, match="sealed") as refusal:
        fake_run.evaluate()
    assert "--reuse-test" in refusal.value.fix and refusal.value.exit_code == 6
    assert fake_run.loads == []
    second = fake_run.evaluate(reuse_test=True)
    assert (first.look, second.look) == (1, 2)
    assert second.delta.p_value == pytest.approx(2 * first.delta.p_value)
    assert second.delta.ci_low < first.delta.ci_low
    looks = TestLedger(fake_run.runs_dir).looks(first.dataset_version)
    assert [(look.run_id, look.refused) for look in looks] == [
        ("colours-001", False),
        ("colours-001", True),
        ("colours-001", False),
    ]


def killed_after(answer: Callable[[str], str], count: int) -> Callable[[str], str]:
    """A model whose process is killed in the middle."""
    calls = [0]

    def answered(prompt: str) -> str:
        calls[0] += 1
        if calls[0] > count:
            raise KeyboardInterrupt
        return answer(prompt)

    return answered


def test_a_killed_evaluation_goes_on_with_its_own_look(fake_run: Run) -> None:
    fake_run.write_questions()
    healthy = fake_run.tuned.answer
    fake_run.tuned.answer = killed_after(healthy, 7)
    with pytest.raises(KeyboardInterrupt):
        fake_run.evaluate()
    fake_run.tuned.answer = healthy
    fake_run.base.prompts.clear()
    fake_run.loads.clear()
    record = fake_run.evaluate()
    assert (record.look, record.verdict, fake_run.loads) == (1, "better", ["fine_tuned"])
    assert fake_run.base.prompts == []
    assert len(TestLedger(fake_run.runs_dir).looks()) == 1
    assert record.prompt_choices and record.systems[1].metrics["accuracy"].value == 0.5


def test_a_changed_job_does_not_go_on_with_the_look_of_another(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.tuned.answer = killed_after(fake_run.tuned.answer, 7)
    with pytest.raises(KeyboardInterrupt):
        fake_run.evaluate()
    fake_run.settings["evaluate"]["max_new_tokens"] = 3
    with pytest.raises(GateRefused):
        fake_run.evaluate()


def test_ties_on_validation_go_to_the_prompt_with_examples(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.base.answer = lambda prompt: "blue"
    assert fake_run.evaluate().baseline == "base_few_shot"


def test_the_prompt_without_examples_is_the_baseline_where_it_is_better(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.base.answer = lambda prompt: "x" if shots(prompt) else right_answer(prompt)
    record = fake_run.evaluate()
    assert record.baseline == "base_zero_shot" and record.delta.value == 0.0


def shots(prompt: str) -> int:
    return prompt.count("<|assistant|>") - 1


@pytest.mark.req("R013")
def test_examples_come_from_training_alone_and_number_five_to_ten(fake_run: Run) -> None:
    fake_run.write_questions()
    record = fake_run.evaluate()
    tried = [choice for choice in record.prompt_choices if choice["num_shots"]]
    assert {choice["num_shots"] for choice in tried} == {5, 8}
    assert {choice["name"] for choice in tried} == {"nearest_8", "nearest_5", "random_8_1", "random_5_2", "diverse_8"}
    for prompt in fake_run.base.prompts:
        asked = [int(part.partition("?")[0]) for part in prompt.split("of thing ")[1:]]
        assert all(number < 30 for number in asked[:-1]) and asked[-1] >= 100
        assert len(set(asked)) == len(asked) and len(asked) - 1 in (0, 5, 8)


def test_prompts_are_chosen_on_validation_alone(fake_run: Run) -> None:
    fake_run.write_questions()
    fake_run.base.answer = lambda prompt: "blue" if shots(prompt) == 5 else "x"
    record = fake_run.evaluate()
    by_name = {choice["name"]: choice for choice in record.prompt_choices}
    assert by_name["nearest_5"]["score"] == pytest.approx(4 / 12) and by_name["nearest_5"]["n"] == 12
    assert by_name["nearest_8"]["score"] == 0.0
    assert [choice["name"] for choice in record.prompt_choices if choice["chosen_as"]] == [
        "zero_shot",
        "nearest_5",
        "constant",
    ]
    order = [number_of(prompt) for prompt in fake_run.base.prompts]
    first_test = order.index(1000)
    assert set(order[:first_test]) == set(range(100, 112)) and min(order[first_test:]) >= 1000


def test_instructions_and_class_names_are_tried_without_and_with_examples(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["instructions"] = ["say the colour"]
    fake_run.settings["evaluate"]["few_shot"] = [5]
    fake_run.write_questions()
    fake_run.base.answer = lambda prompt: right_answer(prompt) if "say the colour" in prompt else "x"
    record = fake_run.evaluate()
    names = [choice["name"] for choice in record.prompt_choices]
    assert names == [
        "zero_shot",
        "instruction_1",
        "class_names",
        "nearest_5",
        "random_5_1",
        "random_5_2",
        "diverse_5",
        "nearest_5_instruction_1",
        "constant",
    ]
    assert record.systems[0].prompt.endswith("say the colour")
    assert record.systems[1].metrics["accuracy"].value == 1.0 and record.baseline == "base_few_shot"
    listed = [prompt for prompt in fake_run.base.prompts if "Answer with one of: blue, gold, green." in prompt]
    assert len(listed) == 12 and all("name the colour\n" in prompt for prompt in listed)


def test_examples_are_left_out_where_the_context_is_short(fake_run: Run) -> None:
    fake_run.base.max_len = 90
    fake_run.write_questions()
    record = fake_run.evaluate()
    tried = [choice for choice in record.prompt_choices if choice["num_shots"]]
    assert all(0 < choice["num_shots"] < 5 for choice in tried)
    assert len({choice["name"] for choice in tried}) < 5  # what is the same prompt once cut is tried once
    assert any("instead of" in warning and "90 tokens" in warning for warning in record.warnings)
    longest = max(len(fake_run.tokenizer.encode(prompt)) for prompt in fake_run.base.prompts)
    assert longest + 9 <= 90


def test_no_room_for_any_example(fake_run: Run) -> None:
    fake_run.base.max_len = 40
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert [system.name for system in record.systems] == ["base_zero_shot", "constant", "fine_tuned"]
    assert record.baseline == "constant"
    assert any("no example" in warning for warning in record.warnings)


def test_no_validation_samples(fake_run: Run) -> None:
    fake_run.write_questions(num_validation=0)
    record = fake_run.evaluate()
    assert record.baseline == "base_few_shot" and record.prompt_choices == ()
    assert any("no validation samples" in warning for warning in record.warnings)


@pytest.mark.parametrize("num_test", [1, 2, 5])
def test_few_test_samples_are_inconclusive(fake_run: Run, num_test: int) -> None:
    fake_run.write_questions(num_test=num_test)
    fake_run.settings["evaluate"]["scorers"] = ["rouge_l", "bleu", "chrf", "token_f1"]
    record = fake_run.evaluate()
    assert record.verdict == "inconclusive" and record.n_needed > num_test
    assert {"bleu", "macro_f1", "rouge_l"} <= set(record.systems[0].metrics)


def test_no_test_samples_are_inconclusive(fake_run: Run) -> None:
    fake_run.write_questions(num_test=0)
    record = fake_run.evaluate()
    assert (record.verdict, record.n, record.human_eval_queue) == ("inconclusive", 0, 0)
    assert record.n_needed > 100 and record.smallest_visible_difference == 1.0
    assert record.systems[0].metrics["accuracy"].n == 0
    assert TestLedger(fake_run.runs_dir).looks() == []
    assert EvaluationRecord.read(fake_run.run_dir) == record


def test_groups_make_the_interval_wider(fake_run: Run) -> None:
    fake_run.write_questions()
    alone = fake_run.evaluate()
    samples = [question(number) for number in range(1000, 1060)]
    grouped = [replace(sample, group=f"g{place // 6}") for place, sample in enumerate(samples)]
    fake_run.base.answer = lambda prompt: "blue" if (number_of(prompt) - 1000) // 6 % 2 else right_answer(prompt)
    fake_run.write([question(n) for n in range(30)], [question(n) for n in range(100, 112)], grouped)
    record = fake_run.evaluate(reuse_test=True)
    assert "cluster" in record.delta.method and "cluster" not in alone.delta.method


def question(number: int) -> Sample:
    turns = (Message("user", f"what is the colour of thing {number}?"), Message("assistant", right(number)))
    return Sample(f"q{number}", turns)


def right(number: int) -> str:
    return ("blue", "green", "gold")[number % 3]


def number_of(prompt: str) -> int:
    return int(prompt.rpartition("of thing ")[2].partition("?")[0])


def right_answer(prompt: str) -> str:
    return right(number_of(prompt))


@pytest.mark.req("R287")
def test_the_metric_fixed_before_training_decides_and_a_change_is_said(fake_run: Run) -> None:
    fake_run.primary_metric = "accuracy"
    fake_run.write_questions()
    assert ResolvedRecord.read(fake_run.run_dir).primary_metric == "accuracy"
    fake_run.settings["evaluate"]["primary_metric"] = "token_f1"
    record = fake_run.evaluate()
    assert record.primary_metric == "accuracy" and "token_f1" in record.systems[0].metrics
    assert any("accuracy was fixed" in warning and "token_f1" in warning for warning in record.warnings)


def test_labels_that_training_never_saw_are_said(fake_run: Run) -> None:
    strange = Sample("s", (Message("user", "what is the colour of thing 7?"), Message("assistant", "mauve")))
    fake_run.write(
        [question(number) for number in range(30)],
        [question(number) for number in range(100, 112)],
        [*(question(number) for number in range(1000, 1020)), strange],
    )
    record = fake_run.evaluate()
    assert any("mauve" in warning for warning in record.warnings)
    assert record.confusion["labels"] == ["blue", "gold", "green", "mauve"]


def test_a_class_head_answers_and_the_base_writes_the_label(fake_run: Run) -> None:
    fake_run.settings["train"] = {"method": "classify"}
    fake_run.tuned.kind = "classify"
    fake_run.tuned.labels = ("blue", "gold", "green")
    fake_run.settings["evaluate"]["advanced"]["probe_samples"] = 40
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert (record.verdict, record.primary_metric) == ("better", "accuracy")
    tuned = record.system("fine_tuned")
    assert tuned.generated_tokens == 0 and "class head" in tuned.prompt
    assert {"macro_f1", "macro_precision", "macro_recall"} <= set(record.systems[0].metrics)
    assert record.general_skills == () and any("base model is unchanged" in text for text in record.warnings)


def test_raw_text_is_judged_in_bits_per_byte(fake_run: Run) -> None:
    fake_run.settings["train"] = {"method": "pretrain"}
    fake_run.base.bits = lambda text: 2.0 + len(text) % 7 / 10
    fake_run.tuned.bits = lambda text: 1.5 + len(text) % 5 / 10
    texts = [Sample(f"t{n}", text=f"document number {n} " + "x" * (n % 11)) for n in range(80)]
    fake_run.write(texts[:30], texts[30:40], texts[40:], task="text")
    record = fake_run.evaluate()
    assert (record.primary_metric, record.baseline) == ("bits_per_byte", "base_zero_shot")
    assert [system.name for system in record.systems] == ["base_zero_shot", "fine_tuned"]
    base, tuned = (system.metrics["bits_per_byte"].value for system in record.systems)
    assert record.delta.value == pytest.approx(base - tuned) and record.delta.value > 0
    assert record.verdict == "better" and "bits saved per byte" in record.reason
    assert record.exact_match_rate is None and record.human_eval_queue == 0
    assert fake_run.lines("answers.jsonl")[0]["scores"].keys() == {"bits_per_byte"}


def test_raw_text_without_test_documents(fake_run: Run) -> None:
    fake_run.settings["train"] = {"method": "pretrain"}
    texts = [Sample(f"t{n}", text=f"document number {n}") for n in range(10)]
    fake_run.write(texts, [], [], task="text")
    record = fake_run.evaluate()
    assert (record.verdict, record.n) == ("inconclusive", 0)


def test_an_untrained_run_is_not_evaluated(fake_run: Run) -> None:
    fake_run.write_questions()
    (fake_run.run_dir / "training.json").unlink()
    with pytest.raises(NotFound, match="not trained"):
        fake_run.evaluate()


def test_a_run_of_other_data_is_not_evaluated(fake_run: Run) -> None:
    fake_run.write_questions()
    trained = (fake_run.run_dir / "training.json").read_bytes()
    fake_run.write_questions(num_test=61)
    (fake_run.run_dir / "training.json").write_bytes(trained)
    with pytest.raises(ConfigError, match="was trained on dataset"):
        fake_run.evaluate()


def test_progress_names_what_is_done(fake_run: Run) -> None:
    fake_run.write_questions(num_test=9)
    seen: list[tuple[str, int, int]] = []
    fake_run.evaluate(on_progress=lambda *step: seen.append(step))
    assert ("fine_tuned", 9, 9) in seen and ("nearest_8", 12, 12) in seen
