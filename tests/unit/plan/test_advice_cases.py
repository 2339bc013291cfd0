"""Advice graded on situations whose best action is known, contradictions among them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from foretune.plan.advice import advise
from foretune.plan.situation import read_situation

ALL = dict.fromkeys(("clear_instructions", "relevant_examples", "structured_output", "chain_of_thought"), True)
NO_SCHEMA = {**ALL, "structured_output": False}


class Case(NamedTuple):
    """A situation in plain values, and the actions that are right."""

    name: str
    situation: dict[str, Any]
    right: tuple[str, ...]


def score(value: float, n: int = 500) -> dict[str, float]:
    """A measured score."""
    return {"value": value, "n": n}


def exhausted(goal: str, num_examples: int, **more: Any) -> dict[str, Any]:
    """A situation in which prompting has been tried with every practice."""
    known = {"goal": goal, "num_examples": num_examples, "data_quality": "good"}
    return {**known, "prompt_tried": True, "checklist": ALL, **more}


def measured(goal: str, num_examples: int, **scores: Any) -> dict[str, Any]:
    """A situation with good data and measured scores."""
    return {"goal": goal, "num_examples": num_examples, "data_quality": "good", "measured": scores}


CASES = (
    # facts
    Case("facts, nothing else known", {"goal": "knowledge"}, ("rag",)),
    Case("facts that change daily", {"goal": "knowledge", "knowledge_changes": "daily"}, ("rag",)),
    Case(
        "facts that change monthly", {"goal": "facts", "knowledge_changes": "monthly", "num_examples": 20_000}, ("rag",)
    ),
    Case("10 examples, new knowledge weekly", {"num_examples": 10, "knowledge_changes": "weekly"}, ("rag",)),
    Case(
        "10 examples of a style, new knowledge weekly",
        {"goal": "behaviour", "num_examples": 10, "knowledge_changes": "weekly"},
        ("rag",),
    ),
    Case("facts with much good data and every practice", exhausted("knowledge", 50_000), ("rag",)),
    Case("facts, the prompt untried", {"goal": "knowledge", "prompt_tried": False, "num_examples": 300}, ("rag",)),
    Case("facts, poor examples", {"goal": "knowledge", "num_examples": 2000, "data_quality": "poor"}, ("rag",)),
    Case(
        "a style on facts that change, enough examples",
        exhausted("behaviour", 5000, knowledge_changes="weekly"),
        ("rag-fine-tune",),
    ),
    Case(
        "extraction on facts that change, enough examples",
        exhausted("extraction", 3000, knowledge_changes="daily"),
        ("rag-fine-tune",),
    ),
    # prompting first
    Case("nothing known", {}, ("prompting",)),
    Case("style, no prompt tried", {"goal": "behaviour", "num_examples": 5000, "prompt_tried": False}, ("prompting",)),
    Case(
        "classes, no prompt tried",
        {"goal": "classification", "num_examples": 800, "prompt_tried": False},
        ("prompting",),
    ),
    Case(
        "reasoning, no prompt tried", {"goal": "reasoning", "num_examples": 3000, "prompt_tried": False}, ("prompting",)
    ),
    Case("reasoning, all tried", exhausted("reasoning", 3000), ("prompting", "fine-tune")),
    Case(
        "the task changes often",
        exhausted("behaviour", 5000, task_changes_often=True),
        ("prompting", "few-shot"),
    ),
    Case(
        "a strong base, half the checklist",
        {"goal": "behaviour", "num_examples": 2000, "prompt_tried": True, "base_quality": "strong"},
        ("prompting", "few-shot"),
    ),
    # few examples
    Case("999 examples of a complex task", exhausted("behaviour", 999), ("few-shot",)),
    Case("700 examples of a complex task", exhausted("behaviour", 700), ("few-shot",)),
    Case("no labels", {"goal": "behaviour", "num_examples": 0}, ("few-shot",)),
    Case("no labels, classes", {"goal": "classification", "num_examples": 0, "prompt_tried": True}, ("few-shot",)),
    Case("30 examples, classes", exhausted("classification", 30), ("few-shot",)),
    Case("499 examples of a simple task", exhausted("classification", 499), ("few-shot",)),
    Case("200 examples, on-premise", exhausted("behaviour", 200, privacy="on-premise"), ("few-shot",)),
    # fine-tune
    Case("700 examples of a simple task, all tried", exhausted("classification", 700), ("fine-tune",)),
    Case("1,000 examples of a style, all tried", exhausted("behaviour", 1000), ("fine-tune",)),
    Case("5,000 labelled texts, all tried", exhausted("classification", 5000), ("fine-tune",)),
    Case("extraction, all tried", exhausted("extraction", 3000), ("fine-tune",)),
    Case("format, everything tried", exhausted("format", 3000), ("fine-tune",)),
    Case(
        "terms of a domain, all tried, no corpus", exhausted("domain-language", 5000, corpus_tokens=1e6), ("fine-tune",)
    ),
    Case(
        "support chat at 300,000 queries a month",
        exhausted("behaviour", 4000, queries_per_month=300_000, prompt_tokens=3000),
        ("fine-tune", "smaller-model"),
    ),
    Case("a style, on-premise", exhausted("behaviour", 6000, privacy="on-premise"), ("fine-tune",)),
    # format without training
    Case(
        "format, schema untried", {"goal": "format", "num_examples": 2000, "prompt_tried": True}, ("structured-output",)
    ),
    Case(
        "format, all but the schema",
        {"goal": "format", "num_examples": 3000, "prompt_tried": True, "checklist": NO_SCHEMA},
        ("structured-output",),
    ),
    Case(
        "format, few examples",
        {"goal": "format", "num_examples": 50, "prompt_tried": True},
        ("structured-output", "few-shot"),
    ),
    # raw text
    Case(
        "a new language with a billion tokens",
        exhausted("new-language", 2000, corpus_tokens=1e9),
        ("continued-pretraining",),
    ),
    Case(
        "a domain with five billion tokens and no labels",
        {"goal": "domain-language", "corpus_tokens": 5e9, "num_examples": 0, "prompt_tried": True, "checklist": ALL},
        ("continued-pretraining",),
    ),
    Case(
        "a domain with ten thousand tokens and few labels",
        {"goal": "domain-language", "corpus_tokens": 1e4, "num_examples": 100, "prompt_tried": True, "checklist": ALL},
        ("few-shot",),
    ),
    Case("new language, enough pairs, no corpus", exhausted("new-language", 20_000, corpus_tokens=1e6), ("fine-tune",)),
    # data first
    Case("poor data, all tried", {**exhausted("behaviour", 5000), "data_quality": "poor"}, ("collect-data",)),
    Case("poor data, classes", {**exhausted("classification", 10_000), "data_quality": "poor"}, ("collect-data",)),
    Case("raters disagree", measured("behaviour", 5000, human_agreement=0.4), ("collect-data",)),
    Case(
        "raters disagree though a target is met",
        measured("behaviour", 5000, human_agreement=0.5, target=0.8, few_shot=score(0.7)),
        ("collect-data",),
    ),
    # cost and latency
    Case(
        "cheaper, much traffic",
        exhausted("cost", 10_000, queries_per_month=500_000, has_teacher=True),
        ("smaller-model",),
    ),
    Case(
        "faster, answers too slow",
        exhausted("latency", 5000, latency_seconds_now=2, max_latency_seconds=0.5),
        ("smaller-model",),
    ),
    Case(
        "cheaper, few queries: does not pay",
        exhausted(
            "cost",
            5000,
            queries_per_month=1000,
            usd_per_query_now=0.015,
            usd_per_query_tuned=0.003,
            training_usd=40,
            labour_usd=2000,
        ),
        ("dont",),
    ),
    Case(
        "cheaper, 100,000 queries: pays in three months",
        exhausted(
            "cost",
            5000,
            queries_per_month=100_000,
            usd_per_query_now=0.015,
            usd_per_query_tuned=0.003,
            training_usd=40,
            labour_usd=3000,
        ),
        ("smaller-model",),
    ),
    Case("over budget", exhausted("behaviour", 5000, training_usd=5000, budget_usd=100), ("few-shot", "prompting")),
    Case(
        "a style for 500 queries a month that never pays",
        exhausted(
            "behaviour",
            5000,
            queries_per_month=500,
            usd_per_query_now=0.01,
            usd_per_query_tuned=0.02,
            training_usd=40,
        ),
        ("dont", "few-shot", "prompting"),
    ),
    # measured
    Case(
        "the prompt is at its target",
        measured("behaviour", 5000, target=0.9, few_shot=score(0.95, 1000)),
        ("dont",),
    ),
    Case(
        "the prompt is at its target, much data and nothing tried before",
        {**measured("classification", 50_000, target=0.85, zero_shot=score(0.93, 1000)), "prompt_tried": False},
        ("dont",),
    ),
    Case(
        "the prompt may be at its target",
        measured("behaviour", 5000, target=0.9, few_shot=score(0.905, 200)),
        ("prompting", "few-shot"),
    ),
    Case(
        "valid 96 % of the time, schema used",
        {**measured("format", 3000, few_shot=score(0.96, 1000)), "checklist": ALL},
        ("fine-tune",),
    ),
    Case(
        "valid 96 % of the time, no schema",
        measured("format", 3000, few_shot=score(0.96, 1000)),
        ("structured-output", "fine-tune"),
    ),
    Case("valid 99.8 % of the time", measured("format", 3000, few_shot=score(0.998, 5000)), ("dont",)),
    Case("far from the target", measured("classification", 5000, target=0.9, few_shot=score(0.7)), ("fine-tune",)),
    Case(
        "far from the target, few examples", measured("behaviour", 200, target=0.9, few_shot=score(0.7)), ("few-shot",)
    ),
    Case(
        "a gain that 50 samples cannot show",
        measured("behaviour", 5000, target=0.9, few_shot=score(0.86, 50)),
        ("collect-data",),
    ),
    Case(
        "tuned is within two points",
        measured("behaviour", 5000, target=0.95, few_shot=score(0.85, 2000), fine_tuned=score(0.86, 2000)),
        ("few-shot",),
    ),
    Case(
        "tuned is within two points of the plain prompt",
        measured(
            "classification",
            5000,
            zero_shot=score(0.85, 2000),
            few_shot=score(0.84, 2000),
            fine_tuned=score(0.86, 2000),
        ),
        ("prompting",),
    ),
    Case(
        "tuned is worse",
        measured("behaviour", 20_000, target=0.95, few_shot=score(0.85, 2000), fine_tuned=score(0.7, 2000)),
        ("few-shot",),
    ),
    Case(
        "tuned is ten points better",
        measured("behaviour", 3000, target=0.95, few_shot=score(0.8, 1000), fine_tuned=score(0.9, 1000)),
        ("fine-tune",),
    ),
    Case(
        "tuned is better with few examples: measured beats the floor",
        measured("behaviour", 400, few_shot=score(0.6, 1000), fine_tuned=score(0.75, 1000)),
        ("fine-tune",),
    ),
    Case(
        "tuned looks better on 60 samples",
        measured("behaviour", 3000, target=0.95, few_shot=score(0.8, 60), fine_tuned=score(0.85, 60)),
        ("collect-data",),
    ),
    Case(
        "retrieval beats tuning",
        measured("behaviour", 3000, few_shot=score(0.6), rag=score(0.85), fine_tuned=score(0.61)),
        ("rag",),
    ),
    Case(
        "retrieval beats tuning, which helps a little too",
        measured("behaviour", 3000, few_shot=score(0.6), rag=score(0.85), fine_tuned=score(0.65)),
        ("rag", "rag-fine-tune"),
    ),
    Case(
        "tuned is better today, the facts change every week",
        {**measured("behaviour", 3000, few_shot=score(0.6), fine_tuned=score(0.8)), "knowledge_changes": "weekly"},
        ("rag-fine-tune", "rag"),
    ),
    Case(
        "constrained decoding is at the target",
        measured("extraction", 3000, target=0.9, few_shot=score(0.7), structured_output=score(0.94)),
        ("structured-output",),
    ),
    Case(
        "retrieval is at the target",
        measured("knowledge", 3000, target=0.85, few_shot=score(0.5), rag=score(0.93)),
        ("rag",),
    ),
    Case(
        "tuning and retrieval both help, neither is enough",
        measured("domain-language", 3000, target=0.95, few_shot=score(0.6), rag=score(0.7), fine_tuned=score(0.72)),
        ("rag-fine-tune",),
    ),
    Case(
        "retrieval does not help a style",
        measured("behaviour", 3000, target=0.9, few_shot=score(0.7), rag=score(0.68)),
        ("fine-tune",),
    ),
    Case(
        "failures are missing knowledge",
        measured("behaviour", 3000, target=0.9, few_shot=score(0.7), knowledge_share=0.7, behaviour_share=0.2),
        ("rag",),
    ),
    Case(
        "failures are format",
        measured("extraction", 3000, target=0.9, few_shot=score(0.7), format_share=0.6, behaviour_share=0.2),
        ("structured-output",),
    ),
    Case(
        "failures are behaviour",
        measured("extraction", 3000, target=0.9, few_shot=score(0.7), format_share=0.1, behaviour_share=0.8),
        ("fine-tune",),
    ),
    Case(
        "a flat curve and no gain",
        measured(
            "behaviour",
            1000,
            target=0.95,
            few_shot=score(0.8, 2000),
            fine_tuned=score(0.8, 2000),
            last_doubling_gain=0.0,
        ),
        ("few-shot", "collect-data"),
    ),
    Case(
        "the small model holds",
        {
            **measured("cost", 10_000, few_shot=score(0.9, 1000), small_model=score(0.85, 1000)),
            "usd_per_query_now": 0.10,
            "usd_per_query_tuned": 0.01,
            "latency_seconds_now": 2,
            "latency_seconds_tuned": 0.4,
        },
        ("smaller-model",),
    ),
    Case(
        "the small model loses too much",
        {
            **measured("cost", 10_000, few_shot=score(0.9, 1000), small_model=score(0.6, 1000)),
            "usd_per_query_now": 0.10,
            "usd_per_query_tuned": 0.01,
        },
        ("prompting", "fine-tune"),
    ),
)


TRAINED = ("fine-tune", "rag-fine-tune", "smaller-model", "continued-pretraining")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_known_best_action(case: Case) -> None:
    assert advise(read_situation(case.situation)).chosen in case.right


def test_there_are_enough_cases_of_every_action() -> None:
    actions = {action for case in CASES for action in case.right}
    assert len(CASES) >= 70 and len(actions) == 10


def test_training_is_never_advised_where_the_prompt_is_within_two_points() -> None:
    for prompted in (0.3, 0.6, 0.9):
        for gain in (-0.1, 0.0, 0.019):
            for goal in ("behaviour", "classification", "extraction", "format", "domain-language", "unknown"):
                scores = {"few_shot": score(prompted, 2000), "fine_tuned": score(prompted + gain, 2000)}
                given = read_situation(measured(goal, 20_000, **scores))
                assert advise(given).chosen not in ("fine-tune", "rag-fine-tune", "continued-pretraining")
