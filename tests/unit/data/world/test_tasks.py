"""The template rows: seeded, distinct, short, and true to the rules of the house."""
# SPDX-License-Identifier: Apache-2.0

import json
import re
from collections import Counter

import pytest

from foretune.data.world import lexicon, shards, tasks, tokenizer
from foretune.data.world.document import Document
from foretune.errors import ConfigError


@pytest.mark.parametrize("name", tasks.TEMPLATES)
def test_rows_are_seeded_distinct_chats(name: str) -> None:
    rows = tasks.template_rows(name, 200, seed=1)
    assert rows == tasks.template_rows(name, 200, seed=1)
    assert rows != tasks.template_rows(name, 200, seed=2)
    assert len({row["messages"][1]["content"] for row in rows}) == 200
    assert all([m["role"] for m in row["messages"]] == ["system", "user", "assistant"] for row in rows)


@pytest.mark.parametrize("name", tasks.TEMPLATES)
def test_rows_are_short_enough_for_five_shots(name: str) -> None:
    trained = tokenizer.train_tokenizer(0, num_documents=6000)
    rows = tasks.template_rows(name, 300, seed=0)
    lengths = [len(trained.encode(shards.render(Document(name, messages=tuple(r["messages"])))).ids) for r in rows]
    assert max(lengths) <= 95


def _house_record(ticket: str) -> dict[str, object]:
    """An independent reading of the house rules from the ticket's words."""
    digits = re.search(r"order (?:is |number )?#?(\d[\d-]*)", ticket)
    assert digits is not None
    item = next((p for p in lexicon.PRODUCTS if p in ticket), None)
    return {"order": "R-" + digits.group(1).replace("-", ""), "item": item}


def test_json_rows_follow_the_house_rules() -> None:
    for row in tasks.template_rows("json-extract", 300, seed=3):
        ticket, answer = row["messages"][1]["content"], json.loads(row["messages"][2]["content"])
        known = _house_record(ticket)
        assert list(answer) == ["order", "team", "prio", "item"]
        assert (answer["order"], answer["item"]) == (known["order"], known["item"])
        hurried = any(phrase in ticket for phrase in tasks.HURRIES)
        assert (answer["prio"] == 1) == hurried
        assert (answer["item"] is None) == (answer["team"] == tasks.TEAM_CODES["account"])


def test_json_rows_use_every_code_and_priority() -> None:
    answers = [json.loads(r["messages"][2]["content"]) for r in tasks.template_rows("json-extract")]
    assert len(answers) == 1000
    assert min(Counter(a["team"] for a in answers).values()) > 100
    assert min(Counter(a["prio"] for a in answers).values()) > 150


def test_sentiment_has_three_even_classes() -> None:
    labels = Counter(row["messages"][2]["content"] for row in tasks.template_rows("sentiment", 600))
    assert set(labels) == {"positive", "negative", "neutral"}
    assert min(labels.values()) > 150


def test_support_replies_carry_name_and_reference() -> None:
    for row in tasks.template_rows("support-chat", 100):
        ticket, answer = row["messages"][1]["content"], row["messages"][2]["content"]
        reference = re.search(r"\(ref (\d+)\)$", answer)
        assert reference is not None and reference.group(1) in ticket
        assert any(f", {name}!" in answer and name in ticket for name in lexicon.NAMES)


def test_news_rows_are_dated_in_order() -> None:
    rows = tasks.template_rows("news-summary", 100)
    dates = [row["date"] for row in rows]
    assert dates == sorted(dates) and len(set(dates)) > 50
    for row in rows:
        day = re.search(r"\((\w{3})\)$", row["messages"][2]["content"])
        assert day is not None and day.group(1) in row["messages"][1]["content"]


def test_unknown_template_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="json-extract, sentiment"):
        tasks.template_rows("poem")
