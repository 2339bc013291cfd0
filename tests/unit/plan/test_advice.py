"""Advice: its rules one by one against the requirements, methods, what would change it, and errors that help."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretune.errors import ConfigError
from foretune.plan.advice import Advice, Option, advice_text, advise, retries_avoided
from foretune.plan.methods import choose_method, method_table
from foretune.plan.rules import fired_rules, read_rules
from foretune.plan.situation import (
    Situation,
    closed_share,
    example_floor,
    read_situation,
    situation_facts,
    wilson_interval,
)

PRACTICES = ("clear_instructions", "relevant_examples", "structured_output", "chain_of_thought")
TRIED = {"prompt_tried": True, "checklist": dict.fromkeys(PRACTICES, True), "data_quality": "good"}


def advice(**values: Any) -> Advice:
    return advise(read_situation(values))


def option(found: Advice, id: str) -> Option:
    return next(option for option in found.options if option.id == id)


def warned(found: Advice) -> set[str]:
    return {notice.rule for notice in found.warnings}


@pytest.mark.req("R002")
def test_ranked_options_with_reasons() -> None:
    found = advice(goal="behaviour", num_examples=300, prompt_tried=False)
    ids = [option.id for option in found.options]
    assert {"prompting", "rag", "few-shot", "fine-tune"} <= set(ids)
    scores = [option.score for option in found.options]
    assert scores == sorted(scores, reverse=True) and found.options[0].id == found.chosen
    assert ids.index("few-shot") < ids.index("fine-tune") and ids.index("prompting") < ids.index("fine-tune")
    assert all(reason.text and reason.source and reason.date for option in found.options for reason in option.reasons)
    assert option(found, "few-shot").reasons and option(found, "fine-tune").reasons


def test_points_are_start_plus_reasons() -> None:
    found = advice(goal="cost", num_examples=3000, queries_per_month=2e5, prompt_tried=True)
    for item in found.options:
        assert item.score == read_rules().start[item.id] + sum(reason.points for reason in item.reasons)


@pytest.mark.req("R003")
def test_format_below_99_percent_makes_fine_tuning_reasonable() -> None:
    found = advice(goal="format", num_examples=3000, measured={"few_shot": {"value": 0.95, "n": 1000}})
    assert found.chosen == "fine-tune"
    assert any("fine-tuning is reasonable" in reason.text for reason in option(found, "fine-tune").reasons)
    good = advice(goal="format", num_examples=3000, measured={"few_shot": {"value": 0.999, "n": 5000}})
    assert good.chosen == "dont"


@pytest.mark.req("R005")
def test_retries_avoided() -> None:
    assert retries_avoided(1000, 0.95, 0.995) == pytest.approx(45)


@pytest.mark.req("R006")
def test_cost_goal_proposes_a_small_model_and_asks_for_the_baseline() -> None:
    found = advice(goal="cost", num_examples=5000, **TRIED)
    assert found.chosen == "smaller-model"
    assert "the cost of a query now" in found.missing and "the latency of a query now" in found.missing
    assert advice(goal="latency", num_examples=5000, **TRIED).chosen == "smaller-model"


@pytest.mark.req("R007")
@pytest.mark.req("R008")
def test_compression_ten_times_cheaper_five_times_faster() -> None:
    values: dict[str, Any] = {
        "goal": "cost",
        "usd_per_query_now": 0.10,
        "usd_per_query_tuned": 0.01,
        "latency_seconds_now": 2,
        "latency_seconds_tuned": 0.4,
        "measured": {"few_shot": {"value": 0.9, "n": 500}, "small_model": {"value": 0.81, "n": 500}},
    }
    facts = situation_facts(read_situation(values))
    assert facts["cost_ratio"] == pytest.approx(10) and facts["latency_ratio"] == pytest.approx(5)
    assert facts["quality_ratio"] == pytest.approx(0.9) and facts["compression_met"] is True
    for field, value in (("usd_per_query_tuned", 0.011), ("latency_seconds_tuned", 0.41)):
        assert situation_facts(read_situation({**values, field: value}))["compression_met"] is False
    worse = {**values, "measured": {**values["measured"], "small_model": {"value": 0.8, "n": 500}}}
    assert situation_facts(read_situation(worse))["compression_met"] is False


@pytest.mark.req("R009")
@pytest.mark.parametrize("goal", ["knowledge", "facts"])
@pytest.mark.parametrize("num_examples", [None, 100, 100_000])
def test_facts_mean_retrieval(goal: str, num_examples: int | None) -> None:
    found = advice(goal=goal, num_examples=num_examples)
    assert found.chosen == "rag" and option(found, "fine-tune").score < 0
    assert "goal-knowledge" in warned(found)


@pytest.mark.req("R010")
@pytest.mark.req("R361")
@pytest.mark.parametrize("changes", ["daily", "weekly", "monthly"])
def test_changing_facts_mean_retrieval(changes: str) -> None:
    assert advice(goal="facts", knowledge_changes=changes, num_examples=50_000, **TRIED).chosen == "rag"
    assert advice(num_examples=10, knowledge_changes=changes).chosen == "rag"


@pytest.mark.req("R011")
def test_both_reasons_of_retrieval_are_told() -> None:
    text = advice_text(advice(goal="facts", knowledge_changes="weekly"), width=200)
    assert "RAG updates its documents" in text and "must be trained again at every change" in text


@pytest.mark.req("R012")
def test_a_thousand_examples() -> None:
    assert advice(goal="behaviour", num_examples=999, **TRIED).chosen == "few-shot"
    enough = advice(goal="behaviour", num_examples=1000, **TRIED)
    assert enough.chosen == "fine-tune" and "small-data" not in warned(enough)


@pytest.mark.req("R415")
def test_two_floors_by_kind_of_task() -> None:
    simple = advice(goal="classification", num_examples=700, **TRIED)
    assert "between-the-floors" in warned(simple) and simple.chosen == "fine-tune"
    assert any(
        reason.rule == "between-the-floors" and reason.points > 0 for reason in option(simple, "few-shot").reasons
    )
    assert advice(goal="behaviour", num_examples=700, **TRIED).chosen == "few-shot"
    said_simple = Situation(goal="behaviour", task_complexity="simple")
    assert (example_floor(said_simple), example_floor(Situation())) == (500, 1000)


@pytest.mark.req("R014")
def test_small_data_warns_of_learning_by_heart() -> None:
    found = advice(goal="behaviour", num_examples=200)
    assert "small-data" in warned(found)
    assert "small-data" in advice_text(found) and "terrible on real queries" in advice_text(found, width=200)


@pytest.mark.req("R015")
@pytest.mark.req("R016")
def test_unmet_checklist_warns_and_names_the_practices() -> None:
    checklist = dict.fromkeys(PRACTICES, True)
    assert set(Situation().checklist.model_dump()) == set(PRACTICES)
    for name in PRACTICES:
        found = advice(goal="behaviour", num_examples=5000, prompt_tried=True, checklist={**checklist, name: False})
        notice = next(notice for notice in found.warnings if notice.rule == "prompt-half-tried")
        assert notice.text.endswith(f": {name.replace('_', ' ')}")
        assert found.chosen != "fine-tune"
    assert "prompt-untried" in warned(advice(goal="behaviour", num_examples=5000, prompt_tried=False))
    assert advice(goal="behaviour", num_examples=5000, **TRIED).chosen == "fine-tune"


@pytest.mark.req("R017")
def test_not_ready_before_the_baseline_is_measured_or_waived() -> None:
    values = {"goal": "behaviour", "num_examples": 5000, **TRIED}
    found = advise(read_situation(values))
    assert found.chosen == "fine-tune" and not found.is_ready and "baseline" in found.missing[0]
    assert advise(read_situation(values), waived=True).is_ready
    measured = {"target": 0.9, "few_shot": {"value": 0.7, "n": 500, "run_id": "run-1"}}
    assert advise(read_situation({**values, "measured": measured})).is_ready


@pytest.mark.req("R018")
def test_closed_share_of_the_gap() -> None:
    assert closed_share(0.5, 0.9, 1.0) == pytest.approx(0.8)
    scores = {"target": 0.9, "zero_shot": {"value": 0.4, "n": 500}, "few_shot": {"value": 0.8, "n": 500}}
    assert advice(goal="behaviour", measured=scores).closed_share == pytest.approx(0.8)
    assert advice(goal="behaviour").closed_share is None


@pytest.mark.req("R019")
def test_weak_baseline_is_told_no_magic() -> None:
    found = advice(goal="behaviour", num_examples=5000, measured={"target": 0.9, "few_shot": {"value": 0.3, "n": 500}})
    assert "weak-baseline" in warned(found)
    assert "will not magically work" in advice_text(found, width=200)


@pytest.mark.req("R026")
def test_baselines_are_kept_with_their_runs() -> None:
    scores = {
        "few_shot": {"value": 0.7, "n": 500, "run_id": "run-1"},
        "rag": {"value": 0.68, "n": 500, "run_id": "run-2"},
    }
    found = advice(goal="behaviour", num_examples=5000, measured={"target": 0.9, **scores})
    assert {name: score.run_id for name, score in found.baselines.items()} == {"few_shot": "run-1", "rag": "run-2"}
    assert found.chosen == "fine-tune"


@pytest.mark.req("R027")
def test_the_three_ways_to_fail_are_rules_that_fire() -> None:
    assert "goal-knowledge" in warned(advice(goal="knowledge"))
    assert "small-data" in warned(advice(num_examples=50))
    assert "prompt-untried" in warned(advice(prompt_tried=False))


@pytest.mark.req("R028")
@pytest.mark.req("R029")
def test_kinds_of_fine_tuning() -> None:
    assert advice(goal="behaviour", num_examples=5000, **TRIED).approach == "supervised"
    assert advice(goal="behaviour", num_examples=5000, related_model=True, **TRIED).approach == "transfer learning"
    assert advice(goal="behaviour", num_examples=50).approach == "few-shot"
    domain = advice(goal="domain", corpus_tokens=1e9, num_examples=0, **TRIED)
    assert domain.approach == "domain-specific" and domain.method is not None and domain.method.method == "pretrain"
    assert advice(goal="knowledge").approach == "none"


@pytest.mark.req("R030")
def test_no_labels_mean_few_shot() -> None:
    assert advice(goal="behaviour", num_examples=0).chosen == "few-shot"


@pytest.mark.req("R079")
def test_low_volume_is_not_worth_it() -> None:
    money = {"usd_per_query_now": 0.015, "usd_per_query_tuned": 0.003, "training_usd": 40, "labour_usd": 2000}
    few = advice(goal="cost", num_examples=5000, queries_per_month=1000, **money, **TRIED)
    assert few.chosen == "dont" and {"slow-payback", "low-volume"} <= warned(few)
    many = advice(goal="cost", num_examples=5000, queries_per_month=100_000, **money, **TRIED)
    assert many.chosen == "smaller-model"


@pytest.mark.req("R087")
def test_flat_curve_says_more_data_will_not_help() -> None:
    scores = {
        "few_shot": {"value": 0.8, "n": 2000},
        "fine_tuned": {"value": 0.8, "n": 2000},
        "last_doubling_gain": 0.001,
    }
    found = advice(goal="behaviour", num_examples=1000, measured=scores)
    assert "flat-curve" in warned(found) and found.chosen != "fine-tune"


def test_measurement_replaces_what_was_assumed() -> None:
    values: dict[str, Any] = {"goal": "behaviour", "num_examples": 5000, "prompt_tried": False}
    assert advice(**values).chosen == "prompting"
    found = advice(**values, measured={"target": 0.9, "few_shot": {"value": 0.7, "n": 500}})
    assert found.chosen == "fine-tune" and found.replaced == ("prompt-untried",)


@pytest.mark.parametrize("examples", [0, 50, 5000, 1_000_000])
def test_prompt_at_the_target_ends_it(examples: int) -> None:
    scores = {"target": 0.9, "few_shot": {"value": 0.95, "n": 1000}}
    assert advice(goal="behaviour", num_examples=examples, measured=scores, **TRIED).chosen == "dont"


def test_the_interval_decides_not_the_point() -> None:
    scores = {"target": 0.9, "few_shot": {"value": 0.91, "n": 100}}
    found = advice(goal="behaviour", num_examples=5000, measured=scores)
    assert found.chosen != "dont" and "prompt-is-near" in warned(found)


@given(st.floats(0.05, 0.95), st.integers(20, 5000))
def test_wilson_agrees_with_the_house_statistics(value: float, n: int) -> None:
    from foretune.stats.intervals import wilson

    successes = round(value * n)
    expected = wilson(successes, n)
    assert wilson_interval(successes / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.req("R192")
@pytest.mark.req("R176")
def test_lora_is_the_default() -> None:
    assert choose_method(Situation()).method == "lora"
    assert choose_method(Situation()).job_method == "lora"


@pytest.mark.req("R186")
def test_full_for_another_language_or_domain() -> None:
    far = Situation(goal="new-language", num_examples=20_000)
    assert choose_method(far).method == "full"
    assert any("forgets more" in text for text in choose_method(far).warnings)
    assert choose_method(Situation(domain_distance="far", num_examples=20_000)).method == "full"
    small = far.model_copy(update={"parameters": 7e9, "device_memory_gb": 24.0})
    assert choose_method(small).method == "lora"


@pytest.mark.req("R198")
def test_prompt_tuning_for_what_the_model_can_do_already() -> None:
    able = Situation(goal="behaviour", base_quality="strong", parameters=7e9)
    assert choose_method(able).method == "prompt"
    assert choose_method(able.model_copy(update={"base_quality": "weak"})).method == "lora"
    assert choose_method(able.model_copy(update={"parameters": 1e8})).method == "lora"


def test_memory_decides_between_full_lora_and_qlora() -> None:
    base = {"goal": "behaviour", "num_examples": 5000, "parameters": 7e9}
    methods = {gb: choose_method(read_situation({**base, "device_memory_gb": gb})).method for gb in (80, 24, 8)}
    assert methods == {80: "lora", 24: "lora", 8: "qlora"}
    assert choose_method(read_situation({**base, "device_memory_gb": 2})).warnings
    predicted = {**base, "device_memory_gb": 24, "method_memory_gb": {"lora": 30.0, "qlora": 10.0}}
    assert choose_method(read_situation(predicted)).method == "qlora"


def test_classes_get_a_head() -> None:
    assert choose_method(Situation(goal="classification", num_examples=2000)).job_method == "classify"


@pytest.mark.req("R183")
@pytest.mark.req("R199")
@pytest.mark.req("R200")
@pytest.mark.req("R201")
def test_method_table() -> None:
    rows = {row.id: (row.cost, row.memory, row.quality) for row in method_table()}
    assert rows == {
        "full": ("high", "80 GB+", "best"),
        "lora": ("medium", "16 GB+", "near-best"),
        "qlora": ("low", "8 GB+", "near-best"),
        "prompt": ("low", "8 GB", "good"),
    }


@pytest.mark.req("R429")
def test_full_memory_is_told_by_optimizer() -> None:
    note = next(row.memory_note for row in method_table() if row.id == "full")
    assert "80 GB or more, or 40 to 80 GB" in note and "optimizer" in note


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"goal": "behaviour", "num_examples": 200},
        {"goal": "behaviour", "num_examples": 5000, **TRIED},
        {"goal": "knowledge", "knowledge_changes": "weekly"},
        {"goal": "format", "num_examples": 3000, "measured": {"few_shot": {"value": 0.95, "n": 1000}}},
        {"goal": "cost", "num_examples": 5000, "queries_per_month": 2e5, **TRIED},
    ],
)
def test_every_answer_says_what_would_change_it(values: dict[str, Any]) -> None:
    found = advice(**values)
    assert found.changes or found.chosen == "rag"
    assert all(change.then != found.chosen for change in found.changes)
    assert found.next_command and found.sentence
    for change in found.changes:
        assert change.change in option(found, change.then).would_win_if


def test_the_changes_named_are_true() -> None:
    found = advice(goal="behaviour", num_examples=200, **TRIED)
    assert {change.change: change.then for change in found.changes}["1,000 good examples"] == "fine-tune"
    assert advice(goal="behaviour", num_examples=1000, **TRIED).chosen == "fine-tune"
    assert {change.change: change.then for change in found.changes}["facts that change every week"] == "rag"
    assert advice(goal="behaviour", num_examples=200, knowledge_changes="weekly", **TRIED).chosen == "rag"


def test_questions_only_where_the_answer_hangs_on_them() -> None:
    assert "How many labelled examples are there?" in advice(goal="behaviour", **TRIED).questions
    assert "How many labelled examples are there?" not in advice(goal="behaviour", num_examples=5000, **TRIED).questions


@given(st.sampled_from([500, 1000, 5000, 50_000]), st.sampled_from(["behaviour", "classification", "format"]))
def test_more_examples_never_speak_against_fine_tuning(count: int, goal: str) -> None:
    here, more = (option(advice(goal=goal, num_examples=n, **TRIED), "fine-tune").score for n in (count, count * 3))
    assert more >= here


def test_the_same_situation_gets_the_same_answer() -> None:
    values = {"goal": "extraction", "num_examples": 1500, "prompt_tried": True}
    assert advice(**values) == advice(**values)


def test_every_rule_is_complete_and_names_known_facts_and_options() -> None:
    rules = read_rules()
    facts = situation_facts(Situation())
    for start, group in ((rules.start, rules.rules), (rules.method_start, rules.method_rules)):
        assert len({rule.id for rule in group}) == len(group)
        for rule in group:
            assert rule.words and rule.then and rule.source and re.fullmatch(r"\d{4}-\d\d-\d\d", rule.date), rule.id
            assert set(rule.points) <= set(start), rule.id
            assert {condition[0] for condition in rule.when} <= set(facts), rule.id
            assert not rule.until or rule.until in facts


def test_every_rule_can_fire() -> None:
    assert fired_rules(read_rules().rules, situation_facts(Situation())).rules
    wanted = {rule.id for rule in read_rules().rules}
    fired: set[str] = set()
    for values in EVERY_RULE:
        found = fired_rules(read_rules().rules, situation_facts(read_situation(values)))
        fired |= {rule.id for rule in (*found.rules, *found.replaced)}
    assert fired == wanted


def _measured(goal: str = "behaviour", **scores: Any) -> dict[str, Any]:
    plain = {name: {"value": value, "n": 1000} for name, value in scores.items() if name in SCORES}
    return {"goal": goal, "measured": {**plain, **{k: v for k, v in scores.items() if k not in SCORES}}}


SCORES = ("zero_shot", "few_shot", "structured_output", "rag", "fine_tuned", "small_model")
EVERY_RULE: tuple[dict[str, Any], ...] = (
    {"goal": "knowledge", "knowledge_changes": "daily"},
    {"goal": "behaviour", "num_examples": 20_000, "knowledge_changes": "weekly", **TRIED},
    {"goal": "format", "has_teacher": True, **TRIED},
    {"goal": "classification", "num_examples": 600, "prompt_tried": True, "has_teacher": True},
    {"goal": "extraction", "num_examples": 0, "prompt_tried": False},
    {"goal": "domain-language", "corpus_tokens": 1e9, "num_examples": 100, "data_quality": "poor"},
    {"goal": "new-language", "corpus_tokens": 1e5, "num_examples": 100, "data_quality": "mixed", "parameters": 7e10},
    {"goal": "cost", "queries_per_month": 500, "base_quality": "strong", "related_model": True},
    {"goal": "reasoning", "is_subjective": True, "num_test_examples": 20, "task_changes_often": True},
    {"queries_per_month": 1e6, "prompt_tokens": 4000, "base_quality": "weak", "privacy": "on-premise"},
    {
        "goal": "cost",
        "queries_per_month": 1e6,
        "usd_per_query_now": 0.01,
        "usd_per_query_tuned": 0.001,
        "training_usd": 50,
        "budget_usd": 10,
        "latency_seconds_now": 3,
        "max_latency_seconds": 1,
    },
    {"queries_per_month": 10, "usd_per_query_now": 0.01, "usd_per_query_tuned": 0.001, "training_usd": 50},
    _measured(target=0.8, few_shot=0.9, human_agreement=0.5),
    _measured(target=0.9, few_shot=0.905),
    _measured(target=0.9, rag=0.95, few_shot=0.7),
    _measured(few_shot=0.93),
    _measured("format", few_shot=0.9),
    _measured(target=0.9, few_shot=0.89),
    _measured(target=0.9, few_shot=0.4, knowledge_share=0.6, format_share=0.5, behaviour_share=0.4),
    _measured(target=0.9, few_shot=0.6, fine_tuned=0.61, last_doubling_gain=0.0),
    _measured(target=0.9, zero_shot=0.6, fine_tuned=0.61),
    _measured(target=0.9, few_shot=0.6, structured_output=0.95),
    {**_measured(target=0.9, few_shot=0.6, fine_tuned=0.8), "knowledge_changes": "weekly"},
    _measured(target=0.9, few_shot=0.6, fine_tuned=0.605, rag=0.8),
    {"goal": "behaviour", "measured": {"few_shot": {"value": 0.8, "n": 50}, "fine_tuned": {"value": 0.85, "n": 50}}},
    _measured(target=0.9, few_shot=0.6, fine_tuned=0.7, rag=0.75),
    _measured(target=0.9, few_shot=0.6, fine_tuned=0.63, rag=0.5),
    {**_measured("cost", few_shot=0.9, small_model=0.85), "usd_per_query_now": 1.0, "usd_per_query_tuned": 0.1},
    _measured("cost", few_shot=0.9, small_model=0.5),
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gaol": "format"}, "did you mean `goal`"),
        ({"goal": "formatt"}, "did you mean `format`"),
        ({"num_examples": -5}, "num_examples"),
        ({"measured": {"few_shoot": {"value": 0.5}}}, "did you mean `few_shot`"),
        ({"measured": {"few_shot": {"value": 95}}}, "measured.few_shot.value"),
        ({"checklist": {"chain_of_thoughts": True}}, "did you mean `chain_of_thought`"),
        ({"queries_per_month": float("nan")}, "queries_per_month"),
        ({"knowledge_changes": "hourly"}, "knowledge_changes"),
    ],
)
def test_bad_input_says_what_was_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_situation(values)
    assert message in str(caught.value) and "goals:" in caught.value.fix


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_situation({"gaol": "x", "num_examples": -1})
    assert len(str(caught.value).splitlines()) == 2


def test_text_keeps_to_the_width() -> None:
    for values in EVERY_RULE:
        lines = advice_text(advice(**values), width=80).splitlines()
        assert max(len(line) for line in lines) <= 80
        assert lines[0].startswith("Advice: ") and lines[-1].strip()


def test_json_round_trip() -> None:
    found = advice(goal="behaviour", num_examples=5000, **TRIED)
    assert Advice.model_validate_json(found.model_dump_json()) == found
