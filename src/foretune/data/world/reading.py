"""Reading tasks of the world: look-up, JSON extraction, classification, summaries and support replies."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from foretune.data.world import lexicon as lex
from foretune.data.world import prose, tickets
from foretune.data.world.document import Pair, Task

COLUMNS: dict[str, tuple[str, ...]] = {
    "city": lex.CITIES,
    "job": lex.JOBS,
    "colour": lex.COLOURS,
    "animal": lex.ANIMALS,
    "food": lex.FOODS,
    "day": lex.DAYS,
}
NUMBER_COLUMNS = ("age", "price", "stock", "points")


def table(rng: Random) -> tuple[list[str], list[list[str]]]:
    """Draw a table: its header, led by `name`, and two to five rows of values."""
    columns = rng.sample(tuple(COLUMNS), rng.randint(1, 2)) + rng.sample(NUMBER_COLUMNS, rng.randint(0, 1))
    names = rng.sample(lex.NAMES, rng.randint(2, 5))
    rows = [[n, *(_cell(rng, c) for c in columns)] for n in names]
    return ["name", *columns], rows


def _cell(rng: Random, column: str) -> str:
    return rng.choice(COLUMNS[column]) if column in COLUMNS else str(rng.randrange(1, 99))


def table_text(rng: Random, header: list[str], rows: list[list[str]]) -> str:
    """Return the table as csv rows, bar rows, or `key: value` records."""
    style = rng.randrange(3)
    if style == 2:
        return "\n".join(", ".join(f"{k}: {v}" for k, v in zip(header, row, strict=True)) for row in rows)
    return "\n".join((",", " | ")[style].join(row) for row in [header, *rows])


def lookup_task(rng: Random) -> Task:
    """Answer a question over a table or a passage in the prompt."""
    kind = rng.choice(("table", "table", "who", "passage", "passage"))
    if kind == "passage":
        asked = rng.choice(("answer the question", "read the text and answer", "answer from the text"))
        return Task("lookup", asked, _passage_question, from_examples=False)
    asked = rng.choice(("look it up in the table", "use the table", "answer from the table"))
    return Task("lookup", asked, _who_question if kind == "who" else _table_question, from_examples=False)


def _passage_question(rng: Random) -> Pair:
    passage = rng.choice((prose.story, prose.news, prose.product))(rng)
    asked = rng.choice(passage.questions)
    return Pair(f"{passage.text}\n{asked.question}", asked.answer)


def _table_question(rng: Random) -> Pair:
    header, rows = table(rng)
    row, at = rng.choice(rows), rng.randrange(1, len(header))
    asked = rng.choice(("what is the {c} of {n}?", "{c} of {n}?", "give the {c} for {n}.")).format(
        c=header[at], n=row[0]
    )
    return Pair(f"{table_text(rng, header, rows)}\n{asked}", row[at])


def _who_question(rng: Random) -> Pair:
    header, rows = table(rng)
    row, at = rng.choice(rows), rng.randrange(1, len(header))
    if sum(other[at] == row[at] for other in rows) > 1:
        return _table_question(rng)
    asked = rng.choice(("who has the {c} {v}?", "which name has {c} {v}?")).format(c=header[at], v=row[at])
    return Pair(f"{table_text(rng, header, rows)}\n{asked}", row[0])


Fields = dict[str, str | int]
KEY_NAMES: dict[str, tuple[str, ...]] = {
    "name": ("name", "person", "who", "customer"),
    "city": ("city", "town", "place", "where"),
    "job": ("job", "work", "role"),
    "age": ("age", "years"),
    "product": ("product", "thing", "article", "what"),
    "colour": ("colour", "paint", "look"),
    "price": ("price", "cost", "euro"),
    "brand": ("brand", "maker", "firm"),
    "order": ("order", "number", "ref"),
    "day": ("day", "date", "when"),
    "count": ("count", "amount", "pieces"),
}


def _person(rng: Random) -> tuple[str, Fields]:
    facts: Fields = {
        "name": rng.choice(lex.NAMES),
        "age": rng.randrange(18, 90),
        "job": rng.choice(lex.JOBS),
        "city": rng.choice(lex.CITIES),
    }
    form = rng.choice(
        (
            "{name} is {age} years old, works as a {job} and lives in {city}.",
            "the {job} {name} from {city} is {age}.",
            "in {city} lives {name}, a {job}, {age} years old.",
            "i am {name}, a {job} of {age} years from {city}.",
        )
    )
    return form.format_map(facts), facts


def _sale(rng: Random) -> tuple[str, Fields]:
    facts: Fields = {
        "brand": rng.choice(lex.BRANDS),
        "product": rng.choice(lex.PRODUCTS),
        "colour": rng.choice(lex.COLOURS),
        "price": rng.randrange(3, 200),
    }
    form = rng.choice(
        (
            "the {brand} {product} in {colour} costs {price} euro.",
            "{brand} sells a {colour} {product} for {price} euro.",
            "for {price} euro you get the {colour} {product} by {brand}.",
            "new {product}: {colour}, {price} euro, made by {brand}.",
        )
    )
    return form.format_map(facts), facts


def _purchase(rng: Random) -> tuple[str, Fields]:
    facts: Fields = {
        "name": rng.choice(lex.NAMES),
        "product": rng.choice(lex.PRODUCTS),
        "count": rng.randrange(2, 30),
        "day": rng.choice(lex.DAYS),
        "order": rng.randrange(1000, 9999),
    }
    form = rng.choice(
        (
            "on {day} {name} bought {count} of the {product}, order {order}.",
            "order {order}: {count} x {product} for {name}, due {day}.",
            "{name} wants {count} pieces of the {product} by {day}. the number is {order}.",
        )
    )
    return form.format_map(facts), facts


def _ticket_facts(rng: Random) -> tuple[str, Fields]:
    given = tickets.ticket(rng)
    return given.text, {"name": given.name, "product": given.product, "order": given.order}


SOURCES: tuple[Callable[[Random], tuple[str, Fields]], ...] = (_person, _sale, _purchase, _ticket_facts)


def json_task(rng: Random) -> Task:
    """Extract a JSON object whose keys are drawn anew; plain key names are told, odd ones only shown."""
    source = rng.choice(SOURCES)
    fields = list(source(rng)[1])
    chosen = rng.sample(fields, rng.randint(1, min(3, len(fields))))
    odd = rng.random() < 0.3
    names = rng.sample(lex.KEY_WORDS, len(chosen)) if odd else [rng.choice(KEY_NAMES[f]) for f in chosen]
    compact = rng.random() < 0.25

    def draw(inner: Random) -> Pair:
        text, facts = source(inner)
        return Pair(text, dumps({n: facts[f] for n, f in zip(names, chosen, strict=True)}, compact))

    return Task("json", _json_instruction(rng, names, chosen, odd, compact), draw)


def _json_instruction(rng: Random, names: list[str], chosen: list[str], odd: bool, compact: bool) -> str:
    keys = ", ".join(f"{n} ({f})" for n, f in zip(names, chosen, strict=True)) if odd else ", ".join(names)
    asked = rng.choice(
        (
            "extract json with the keys {}",
            "give json: {}",
            "read the text and write json with {}",
            "return a json object with keys {}",
        )
    )
    return asked.format(keys) + (", no spaces" if compact else "")


def dumps(facts: Fields, compact: bool = False) -> str:
    """Return the facts as one line of JSON; `compact` leaves out the spaces."""
    return json.dumps(facts, separators=(",", ":") if compact else (", ", ": "))


def _review_case(rng: Random, label: str) -> str:
    return prose.review(rng, label)


def _ticket_case(rng: Random, label: str) -> str:
    return tickets.ticket(rng, (label,)).text


def _news_case(rng: Random, label: str) -> str:
    while True:
        given = prose.news(rng)
        if given.topic == label:
            return given.text


def _word_case(rng: Random, label: str) -> str:
    return rng.choice(lex.GROUPS[label])


Case = tuple[Callable[[Random, str], str], tuple[str, ...], tuple[str, ...]]
CASES: tuple[Case, ...] = (
    (_review_case, ("positive", "negative"), ("what is the sentiment?", "is the review good or bad?", "rate the mood")),
    (_review_case, ("positive", "negative", "neutral"), ("what is the sentiment?", "which mood is it?")),
    (_ticket_case, tuple(tickets.TOPICS), ("what is the ticket about?", "triage the ticket", "give the topic")),
    (_news_case, tuple(prose.NEWS), ("what is the topic?", "which part of the paper is it?", "classify the news")),
    (_word_case, tuple(lex.GROUPS), ("what kind of word is it?", "give the group", "sort the word into a group")),
)


def classify_task(rng: Random) -> Task:
    """Classify reviews, tickets, news or words; the label words are the plain ones or drawn anew."""
    case, classes, questions = rng.choice(CASES)
    classes = tuple(rng.sample(classes, min(len(classes), rng.randint(2, 4))))
    renamed = rng.random() < 0.55
    labels = label_words(rng, len(classes)) if renamed else list(classes)
    asked = rng.choice(questions)
    if renamed:
        asked += " " + ", ".join(f"{c} = {n}" for c, n in zip(classes, labels, strict=True)) + "."
    else:
        asked += rng.choice((" labels: ", " answer with one of: ", " choose: ")) + ", ".join(classes) + "."

    def draw(inner: Random) -> Pair:
        at = inner.randrange(len(classes))
        return Pair(case(inner, classes[at]), labels[at])

    return Task("classify", asked, draw, closed=True)


def label_words(rng: Random, count: int) -> list[str]:
    """Draw `count` different label words: plain words, single letters, numbers, or letter-digit codes."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.sample("abcdefghkmnprstuwx", count)
    if kind == 1:
        return [str(n) for n in rng.sample(range(10), count)]
    if kind == 2:
        letter = rng.choice("abcdefghkmnprstuwx").upper()
        return [f"{letter}{n}" for n in rng.sample(range(10), count)]
    return rng.sample(lex.LABEL_WORDS, count)


def summary_task(rng: Random) -> Task:
    """Say a story, a news item or a product text in one sentence."""
    source = rng.choice((prose.story, prose.news, prose.product))
    asked = rng.choice(
        ("sum up in one sentence", "one sentence, please", "give a short summary", "what happened? in short")
    )

    def draw(inner: Random) -> Pair:
        given = source(inner)
        return Pair(given.text, given.summary)

    return Task("summarise", asked, draw)


def reply_task(rng: Random) -> Task:
    """Answer a support ticket."""
    asked = rng.choice(("answer the customer", "write a reply", "reply to the ticket", "you are a support agent"))

    def draw(inner: Random) -> Pair:
        given = tickets.ticket(inner)
        return Pair(given.text, tickets.reply(inner, given))

    return Task("reply", asked, draw)
