"""Rules for single rows: each finds what it is for and leaves its neighbours alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.audit.arithmetic import is_wrong_statistic
from foretune.audit.checks.quality import quality_rules
from foretune.audit.row_rules import RULES, Parts, parts_of, rules_hit
from foretune.audit.subject import Subject
from foretune.data.samples import Message, Sample

GOOD = "Regular exercise lowers blood pressure and helps you to sleep well at night."


def sample(instruction: str, answer: str = GOOD, context: str = "", number: int = 0) -> Sample:
    prompt = f"{instruction}\n\n{context}" if context else instruction
    messages = (Message("user", prompt), Message("assistant", answer))
    return Sample(f"r{number}", messages, place=f"d:{number}", meta={"input_at": len(instruction)})


@pytest.mark.req("R148")
@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("no_input", sample("Tell a joke.", context="<no input>")),
        ("no_input", sample("Tell a joke.", context="Noinput")),
        ("no_input", sample("Tell a joke.", context="No input required.")),
        ("no_input", sample("Tell a joke.", context="N/A")),
        ("stub_input", sample("Summarise it.", context="[Attached article]")),
        ("stub_input", sample("Write it down.", context="Recording about the history of Waterloo")),
        ("url", sample("Summarise this article.", context="https://news.example/2010/phones.html")),
        ("media", sample("Make a logo for a shop.", "![alt text](logo)")),
        ("media", sample("Name the boat.", context="Attached photo")),
        ("visual_task", sample("Design a logo for a mobile application.")),
        ("visual_task", sample("Draw a picture of a cat")),
        ("not_seen", sample("Describe the animal in this photo.")),
        ("live", sample("Predict the weather in Los Angeles tomorrow.")),
        ("live", sample("Search the web for symptoms of the flu.")),
        ("no_output", sample("Draw conclusions.", "<nooutput> This cannot be done")),
        ("no_output", sample("Name a fruit.", "N/A")),
        ("wrong_statistic", sample("Find the median of these numbers.", "The median is 6.", "9, 2, 7, 4, 1, 6, 8, 3")),
        ("statistic", sample("Calculate the average.", "It is 4.", "2, 4, 6")),
        ("calculation", sample("Solve the equation.", "x = 2", "2x + 3 = 7")),
        ("hole", sample("Write an email to [Name] about lunch.")),
        ("missing_text", sample("Summarise the following article.")),
        ("refusal", sample("Tell a story.", "As an AI, I have no stories.")),
        ("merged", sample("Why is the sky blue?", f"{GOOD}\n\n16. Instruction: Name a bird.")),
        ("boilerplate", sample("Name a bird.", "Sure! A robin is a bird.")),
        ("repetition", sample("Write.", "the sky is very blue now " * 12)),
        ("copy", sample("Put it in order.", "first this, then that, then all", "first this, then that, then all")),
    ],
)
def test_rule_finds(rule: str, row: Sample) -> None:
    assert rule in rules_hit(row)


@pytest.mark.req("R148")
@pytest.mark.parametrize(
    "row",
    [
        sample("Give three tips for staying healthy."),
        sample("Draw a conclusion from the text.", context="Sales rose by a tenth in spring, and fell in autumn."),
        sample("Describe the painting by Van Gogh.", context="“The Starry Night”"),
        sample("Design a study that measures sleep."),
        sample("Translate the sentence.", context="The article in the newspaper was read by many people."),
        sample("Explain how neural networks can predict stock prices."),
        sample("Answer with no more than one word.", "None of them."),
        sample("Turn the sentence into a question.", context="Input devices are cheap."),
        sample("Rewrite the following sentence: I am cold.", "I feel cold."),
    ],
)
def test_good_rows_are_left_alone(row: Sample) -> None:
    assert rules_hit(row) == {}


@pytest.mark.parametrize(
    ("task", "numbers", "answer", "is_wrong"),
    [
        ("Find the median.", "5, 15, 10, 7", "The median is 10.", True),
        ("Find the median.", "5, 15, 10, 7", "The median is 8.5.", False),
        ("What is the average of 7, 8, 6, and 9?", "", "It is 7.75.", True),
        ("What is the average of 7, 8, 6, and 9?", "", "It is 7.5.", False),
        ("Calculate the mean.", "[1, 1, 2]", "1.33", False),
        ("Calculate the sum of the numbers 541, 1183, and 745.", "", "2469.", False),
        ("Find the mean and the median.", "1, 2, 9", "4 and 3", False),
        ("Find the average age.", "Ann, 32\nBob, 25", "30", False),
        ("Write a function for the mean.", "[1, 2, 6]", "def mean(x): return 5", False),
        ("Find the sum.", "2, 3", "five", False),
    ],
)
def test_statistics_are_recomputed(task: str, numbers: str, answer: str, is_wrong: bool) -> None:
    assert is_wrong_statistic(Parts(task, numbers, answer)) is is_wrong


def test_parts_without_a_mark_are_split_at_the_first_line() -> None:
    row = Sample("a", (Message("user", "Sort them.\nb, a"), Message("assistant", "a, b")))
    assert parts_of(row) == Parts("Sort them.", "b, a", "a, b")
    assert rules_hit(Sample("t", text="<noinput>")) == {}


def test_findings_carry_certainty_and_rows() -> None:
    rows = [sample(f"Give {n} tips for staying healthy.", number=n) for n in range(95)]
    rows += [sample("Design a logo for a shop.", number=n) for n in range(95, 100)]
    (finding,) = quality_rules(Subject({"train": rows}, task="chat", tokenizer=None, max_seq_len=0))
    assert (finding.id, finding.severity, finding.count) == ("DATA089", "warning", 5)
    assert finding.sample_ids == ("r95", "r96", "r97", "r98", "r99")
    assert finding.effect == pytest.approx(5 * finding.certainty / 100)
    assert quality_rules(Subject({"train": rows}, task="classify", tokenizer=None, max_seq_len=0)) == []


def test_what_most_rows_do_is_no_fault() -> None:
    rows = [sample("Design a logo for a shop.", number=n) for n in range(10)]
    (finding,) = quality_rules(Subject({"train": rows}, task="chat", tokenizer=None, max_seq_len=0))
    assert finding.severity == "info"


def test_rules_have_names_numbers_and_certainties_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len({rule.number for rule in RULES}) == len(RULES)
    assert all(0 < rule.certainty <= 1 for rule in RULES)


def test_alpaca_as_measured(shared_data: Path) -> None:
    """The sure rules against the curators' edits: precision at least .85, recall at least .35."""
    folder = shared_data / "alpaca_cleaned"
    labels = json.loads((folder / "labels_rows0-2499.json").read_text(encoding="utf-8"))
    rows = json.loads((shared_data / "alpaca_52k" / "alpaca_data.json").read_text(encoding="utf-8"))
    sure = {rule.name for rule in RULES if rule.is_sure}
    samples = [sample(rows[n]["instruction"], rows[n]["output"], rows[n]["input"]) for n in range(len(labels))]
    flagged = {n for n, row in enumerate(samples) if sure & rules_hit(row).keys()}
    edited = {int(n) for n, label in labels.items() if not label["kind"].startswith("prompt same")}
    assert len(flagged & edited) >= 0.85 * len(flagged)
    assert len(flagged & edited) >= 0.35 * len(edited)
