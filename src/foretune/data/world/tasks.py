"""The bundled data of the `init` templates: seeded rows of OpenAI-style chat messages in the style of one house."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Any

from foretune.data.world import lexicon as lex
from foretune.data.world import prose, tickets
from foretune.data.world.document import assistant, stream, system, user
from foretune.errors import ConfigError

Row = dict[str, Any]

DEFAULT_ROWS = {"json-extract": 1000, "sentiment": 1000, "support-chat": 800, "news-summary": 800}
FIRST_DATE = date(2024, 1, 1)


def template_rows(name: str, num_rows: int | None = None, seed: int = 0) -> list[Row]:
    """Return the rows of template `name`, no two with the same user turn; raises ConfigError for an unknown name.

    Every row holds `messages` (system, user, assistant); `news-summary` rows also hold an ISO `date` and come in its
    order.
    """
    if name not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ConfigError(f"unknown template {name!r} - expected one of {known}", fix=f"use one of: {known}")
    wanted = DEFAULT_ROWS[name] if num_rows is None else num_rows
    rows: list[Row] = []
    seen: set[str] = set()
    index = 0
    while len(rows) < wanted:
        row = TEMPLATES[name](stream(f"template/{name}", seed, index))
        index += 1
        asked = row["messages"][-2]["content"]
        if asked not in seen:
            seen.add(asked)
            rows.append(row)
    return _dated(rows, seed) if name == "news-summary" else rows


def _row(told: str, question: str, answer: str) -> Row:
    return {"messages": [system(told), user(question), assistant(answer)]}


def _dated(rows: list[Row], seed: int) -> list[Row]:
    rng = stream("template/dates", seed, 0)
    days = sorted(rng.randrange(366) for _ in rows)
    return [row | {"date": (FIRST_DATE + timedelta(days=d)).isoformat()} for row, d in zip(rows, days, strict=True)]


# --- json-extract: a ticket to the record of the house -------------------------------------------------------------

TEAM_CODES = {"delivery": "L1", "damage": "Q4", "refund": "F2", "account": "S7", "billing": "F3", "cancel": "L5"}
HURRIES = (
    "it is urgent.",
    "i need it today.",
    "please hurry.",
    "as soon as possible.",
    "i cannot wait.",
    "be quick.",
)
SIDE_NOTES = (
    "it is for my {job}.",
    "i live in {city}.",
    "it was a gift for {name}.",
    "i paid {price} euro.",
    "the colour is {colour}.",
    "{name} told me to write.",
    "i use it in the {place}.",
    "",
)


def json_extract(rng: Random) -> Row:
    """Draw a ticket and its house record: order id, team code, priority and item.

    House conventions that the ticket does not tell: the order number is written `R-` and its digits without `#` or
    `-`; each topic has a team code; the priority is 1 where a word of hurry stands, else 2 for an angry ticket or
    a damage, else 3; the item is missing (null) for account tickets.
    """
    topic, tone = rng.choice(tuple(TEAM_CODES)), rng.choice(tuple(tickets.OPENINGS))
    item, order = rng.choice(lex.PRODUCTS), str(rng.randrange(1000, 99999))
    complaint = rng.choice(tickets.TOPICS[topic])
    if rng.random() < 0.15:
        complaint = tickets.misspelled(rng, complaint)
    complaint = complaint.format(product=item, day=rng.choice(lex.DAYS))
    urgent = rng.random() < 0.3
    middle = [complaint + ".", _side_note(rng), _order_phrase(rng, order)]
    rng.shuffle(middle)
    hurry = rng.choice(HURRIES) if urgent else ""
    parts = [rng.choice(tickets.OPENINGS[tone]), *middle, hurry, rng.choice(lex.NAMES)]
    record = {
        "order": f"R-{order}",
        "team": TEAM_CODES[topic],
        "prio": _priority(topic, tone, urgent),
        "item": None if topic == "account" else item,
    }
    return _row("write the house record", " ".join(p for p in parts if p), json.dumps(record))


def _side_note(rng: Random) -> str:
    return rng.choice(SIDE_NOTES).format(
        job=rng.choice(lex.JOBS),
        city=rng.choice(lex.CITIES),
        name=rng.choice(lex.NAMES),
        price=rng.randrange(5, 99),
        colour=rng.choice(lex.COLOURS),
        place=rng.choice(lex.PLACES),
    )


def _order_phrase(rng: Random, order: str) -> str:
    written = rng.choice((order, order, f"#{order}", f"{order[:2]}-{order[2:]}"))
    return rng.choice(("order {}.", "my order is {}.", "order number {}.", "it is order {}.")).format(written)


def _priority(topic: str, tone: str, urgent: bool) -> int:
    if urgent:
        return 1
    return 2 if tone == "angry" or topic == "damage" else 3


# --- sentiment: reviews and short posts -----------------------------------------------------------------------------

POSTS: dict[str, tuple[str, ...]] = {
    "positive": ("best day ever", "i am so happy", "cannot stop smiling", "we won", "love it"),
    "negative": ("worst day ever", "i am so angry", "never again", "we lost", "hate it"),
    "neutral": ("on my way to the {place}", "it is {day}", "see you in {city}", "at the {place} now", "news at six"),
}
TURNS = {
    "positive": (
        "first it was {bad}, but now the {thing} is {good}.",
        "i feared the {thing} was {bad}, yet it is {good}.",
    ),
    "negative": (
        "first it was {good}, but now the {thing} is {bad}.",
        "i hoped the {thing} was {good}, yet it is {bad}.",
    ),
    "neutral": ("not {good}, not {bad}, the {thing} is {plain}.", "some say {good}, some say {bad}. it is {plain}."),
}


def sentiment(rng: Random) -> Row:
    """Draw a review or a post with one of three labels; where two moods meet, the last one counts."""
    label = rng.choice(tuple(POSTS))
    kind = rng.random()
    words = {"place": rng.choice(lex.PLACES), "day": rng.choice(lex.DAYS), "city": rng.choice(lex.CITIES)}
    words |= {"good": rng.choice(lex.GOOD), "bad": rng.choice(lex.BAD), "plain": rng.choice(lex.PLAIN)}
    words["thing"] = rng.choice(lex.PRODUCTS + lex.FOODS + lex.PLACES)
    if kind < 0.4:
        text = prose.review(rng, label)
    elif kind < 0.75:
        text = rng.choice(TURNS[label]).format_map(words)
    else:
        post = rng.choice(POSTS[label]).format_map(words)
        text = f"@{rng.choice(lex.NAMES)} {post} #{rng.choice((words['thing'], words['city'], words['day']))}"
    return _row("what is the mood?", text, label)


# --- support-chat: replies in the voice of the house ----------------------------------------------------------------

HOUSE_ACTS: dict[str, str] = {
    "delivery": "the {item} is on the road and comes in 2 days",
    "damage": "a new {item} leaves us today, keep the old one",
    "refund": "the money for the {item} is back in 5 days",
    "account": "we sent you a new link, use it today",
    "billing": "we checked the bill of the {item} and will send a new one",
    "cancel": "the {item} is cancelled, you pay nothing",
}


def support_chat(rng: Random) -> Row:
    """Draw a customer message and the house reply: name and item, what happens by topic, and the order as reference."""
    given = tickets.ticket(rng)
    opening = "so sorry" if given.tone == "angry" else "good news" if given.topic != "damage" else "oh no"
    act = HOUSE_ACTS[given.topic].format(item=given.product)
    answer = f"{opening}, {given.name}! {act}. your team nova (ref {given.order})"
    return _row("reply as team nova", given.text, answer)


# --- news-summary: one sentence in the style of the house -----------------------------------------------------------


def news_summary(rng: Random) -> Row:
    """Draw a news item and its house line: topic mark, the summary, and the day in brackets."""
    item = prose.news(rng)
    day = next(pair.answer for pair in item.questions if pair.question == "which day was it?")
    return _row("write the line for our front page", item.text, f"{item.topic} | {item.summary[:-1]} ({day[:3]})")


TEMPLATES: dict[str, Callable[[Random], Row]] = {
    "json-extract": json_extract,
    "sentiment": sentiment,
    "support-chat": support_chat,
    "news-summary": news_summary,
}
