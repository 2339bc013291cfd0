"""The FAQ: found by words, its figures computed, every answer with sources, a date and a command that parses."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shlex

import pytest

from foretune.errors import NotFound
from foretune.plan.answer import answer
from foretune.plan.faq import PLACEHOLDER, Answered, answered, find_entry, read_faq
from foretune.plan.faq_figures import FIGURES, guarded
from foretune.plan.providers import PROVIDERS
from foretune.plan.request import plan_request


def told(topic: str) -> Answered:
    return answered(find_entry(topic))


@pytest.mark.parametrize(
    ("asked", "topic"),
    [
        ("long", "long"),
        ("How long does it take?", "long"),
        ("can I fine-tune GPT-4", "gpt4"),
        ("claude", "gpt4"),
        ("how do I update with new data", "update"),
        ("will it make my model faster", "faster"),
        ("minimum gpu requirement", "gpu"),
        ("is my data diverse enough", "diverse"),
        ("copyrighted data", "copyright"),
        ("fine-tune multiple times", "multiple"),
        ("multiple languages", "languages"),
        ("versioning and tracking", "versioning"),
        ("what does it cost", "cost"),
        ("is it always necessary", "necessary"),
        ("best tools", "tools"),
        ("can I open source it", "open-source"),
        ("what is a token", "words"),
        ("sagemaker", "platforms"),
        ("serverless", "serving"),
        ("RAG or fine-tuning", "rag"),
    ],
)
def test_questions_find_their_answer(asked: str, topic: str) -> None:
    assert find_entry(asked).id == topic


@pytest.mark.parametrize(("asked", "topic"), [("lnog", "long"), ("copyrigth", "copyright"), ("quantize", "serving")])
def test_a_typo_is_answered_with_the_closest_topic(asked: str, topic: str) -> None:
    with pytest.raises(NotFound, match="did you mean") as caught:
        find_entry(asked)
    assert caught.value.fix == f"foretune faq {topic}"


def test_what_nobody_asks_lists_the_topics() -> None:
    with pytest.raises(NotFound, match="xyzzy") as caught:
        find_entry("xyzzy")
    assert caught.value.fix and "necessary, long, gpt4" in caught.value.fix


def test_every_answer_is_complete() -> None:
    assert len({entry.id for entry in read_faq()}) == len(read_faq())
    for entry in read_faq():
        assert entry.sources and re.fullmatch(r"\d{4}-\d\d-\d\d", entry.date) and entry.question.endswith("?"), entry.id
        assert set(PLACEHOLDER.findall(entry.answer)) <= set(FIGURES), entry.id
        assert all(re.fullmatch(r"R\d{3}", requirement) for requirement in entry.requirements)


def test_every_command_parses() -> None:
    from typer.main import get_command

    from foretune.cli.main import app

    for entry in read_faq():
        command, rest = get_command(app), shlex.split(entry.command)[1:]
        while hasattr(command, "commands") and rest and rest != ["--help"]:
            command = command.commands[rest.pop(0)]
        arguments = [argument for argument in rest if argument != "--help"]
        if arguments:
            command.make_context(command.name, arguments)


@pytest.mark.req("R063", "R395", "R408")
def test_how_long_is_computed_now_and_beside_it_what_is_told() -> None:
    found = told("long")
    assert "1 to 3 hours" in found.text and "30 to 60" in found.text and "4 to 8 hours" in found.text
    assert "hours" in found.text and "days or weeks" in found.text
    small, large = found.figures["durations"].splitlines()[0], found.figures["durations"].splitlines()[-1]
    assert " min " in small and " d " in large  # minutes, and days
    hours = answer(
        plan_request(
            base="meta-llama/Llama-3.2-1B",
            method="lora",
            gpu="L4",
            num_examples=1000,
            tokens_per_example=500.0,
            epochs=3.0,
        )
    ).train_hours
    assert hours is not None and f"{int(hours.low * 60)} min" in small


@pytest.mark.req("R177", "R396")
def test_gpt4_and_claude_with_dated_states() -> None:
    text = told("gpt4").text
    assert all(provider.name in text for provider in PROVIDERS) and "closes 2027-01-06" in text
    assert len(re.findall(r"seen \d{4}-\d\d-\d\d", text)) == len(PROVIDERS) and "tune an open model" in text


@pytest.mark.req("R397", "R398", "R400", "R401", "R402", "R403", "R404", "R406", "R407", "R409")
@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("update", "from the base on old and new data together"),
        ("faster", "No."),
        ("diverse", "what production asks"),
        ("copyright", "licence"),
        ("multiple", "No,"),
        ("languages", "multilingual"),
        ("versioning", "parent of a run"),
        ("necessary", "Not always"),
        ("tools", "TRL"),
        ("open-source", "every data source"),
    ],
)
def test_the_answers_of_the_brief(topic: str, said: str) -> None:
    assert said in " ".join(told(topic).text.split())


@pytest.mark.req("R020")
def test_useful_for_domains_not_always_necessary() -> None:
    text = told("necessary").text
    assert "Not always" in text and "domain" in text


@pytest.mark.req("R356")
def test_a_smaller_model_is_what_is_faster() -> None:
    found = told("faster")
    assert "A smaller model is faster" in found.text and "10 times" in found.figures["speed_up"]


@pytest.mark.req("R399")
def test_the_minimum_gpu_links_the_fit_checker() -> None:
    found = told("gpu")
    assert "--choices smallest" in found.entry.command and found.figures["minimum_gpus"].count(" x ") == 4


@pytest.mark.req("R405")
def test_the_cost_links_the_calculator_and_dates_its_prices() -> None:
    found = told("cost")
    assert found.entry.command.startswith("foretune plan --choices") and "price of 20" in found.figures["costs"]


@pytest.mark.req("R410")
def test_the_words_for_newcomers() -> None:
    text = told("words").text
    assert all(f"  {word}:" in text for word in ("LLM", "Transformer", "Token", "LoRA", "Epoch", "RAG"))


@pytest.mark.req("R181")
def test_the_reference_fact_is_cited() -> None:
    found = told("size")
    assert "LLaMA-13B outperforms GPT-3" in found.text and any("2302.13971" in source for source in found.entry.sources)


def test_a_figure_that_cannot_be_computed_says_why() -> None:
    def fails() -> str:
        raise NotFound("no price", fix="enter one")

    assert guarded(fails) == "  not known here: no price"
