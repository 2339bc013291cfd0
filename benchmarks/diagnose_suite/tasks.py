"""Twelve small synthetic tasks over the words of pebble's world: four, six, and two to learn by heart."""

# SPDX-License-Identifier: Apache-2.0
#
# Every task draws facts and writes question and answer from them, so that answers can also be right in form alone
# (facts of nobody), and questions be asked in words that training never used (a shift).
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from foretune.data.world import lexicon as lex
from foretune.data.world import spanish

__all__ = ["BY_HEART", "DEVELOPMENT", "FIRST", "Facts", "Form", "Pair", "Task"]

Facts = dict[str, str]
Form = Literal["usual", "shifted"]


class Pair(NamedTuple):
    """What is asked and what is to be answered."""

    question: str
    answer: str


@dataclass(frozen=True)
class Task:
    """One task: how facts are drawn, asked for and answered, and the metric that decides.

    `shifted` are ways of asking that no training row uses.
    """

    name: str
    kind: str
    system: str
    metric: str
    facts: Callable[[Random], Facts]
    usual: tuple[str, ...]
    shifted: tuple[str, ...]
    answer: Callable[[Facts], str]

    def pair(self, rng: Random, form: Form = "usual") -> Pair:
        """One question with its right answer."""
        facts = self.facts(rng)
        return Pair(self.question(rng, facts, form), self.answer(facts))

    def question(self, rng: Random, facts: Facts, form: Form = "usual") -> str:
        """The facts asked in one of the usual or of the shifted ways."""
        return rng.choice(self.usual if form == "usual" else self.shifted).format_map(_Said(facts))

    def hollow_pair(self, rng: Random) -> Pair:
        """A question with an answer of the right form, its content drawn from nowhere."""
        asked = self.facts(rng)
        mixed = {name: self.facts(rng)[name] for name in asked}
        return Pair(self.question(rng, asked), self.answer(mixed))


class _Said(dict[str, str]):
    """Facts as the question says them: those named `_x` only the answer knows."""

    def __missing__(self, name: str) -> str:
        raise AssertionError(f"no fact {name!r}")


# --- development ----------------------------------------------------------------------------------------------------


def _purchase(rng: Random) -> Facts:
    return {
        "ref": str(rng.randrange(100, 999)),
        "item": rng.choice(lex.PRODUCTS),
        "n": str(rng.randrange(2, 30)),
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
    }


def _purchase_record(facts: Facts) -> str:
    return json.dumps({"ref": f"R{facts['ref']}", "item": facts["item"], "n": int(facts["n"])})


GOOD, BAD, PLAIN = lex.GOOD[:5], lex.BAD[:5], lex.PLAIN[:5]
MOODS = {"plus": GOOD, "minus": BAD, "zero": PLAIN}


def _opinion(rng: Random) -> Facts:
    mood = rng.choice(tuple(MOODS))
    other = rng.choice([one for one in MOODS if one != mood])
    return {
        "mood": mood,
        "now": rng.choice(MOODS[mood]),
        "then": rng.choice(MOODS[other]),
        "thing": rng.choice(lex.PRODUCTS + lex.FOODS),
        "place": rng.choice(lex.PLACES),
    }


def _prices(rng: Random) -> Facts:
    first, second = rng.sample(lex.FOODS, 2)
    a, b = rng.sample(range(2, 99), 2)
    item, price = rng.choice(((first, a), (second, b)))
    return {"list": f"{first} {a}, {second} {b}", "item": item, "price": str(price)}


def _news(rng: Random) -> Facts:
    return {
        "day": rng.choice(lex.DAYS),
        "job": rng.choice(lex.JOBS),
        "name": rng.choice(lex.NAMES),
        "colour": rng.choice(lex.COLOURS),
        "thing": rng.choice(lex.OBJECTS),
        "place": rng.choice(lex.PLACES),
        "act": rng.choice(("found", "lost", "sold", "bought")),
    }


# --- the first six beside them --------------------------------------------------------------------------------------


def _sale(rng: Random) -> Facts:
    return {
        "brand": rng.choice(lex.BRANDS),
        "item": rng.choice(lex.PRODUCTS),
        "colour": rng.choice(lex.COLOURS),
        "price": str(rng.randrange(3, 200)),
    }


DESKS = {
    "L1": ("my {p} has not arrived", "the parcel with the {p} is late", "where is my {p}"),
    "Q4": ("the {p} came broken", "there is a crack in the {p}", "the {p} arrived in pieces"),
    "F2": ("i want my money back for the {p}", "please refund the {p}", "i sent the {p} back but got no refund"),
    "S7": ("i cannot log in to see the {p}", "my password does not work for the {p}", "reset my password for the {p}"),
    "F3": (
        "i was charged twice for the {p}",
        "the invoice for the {p} is wrong",
        "there is an error on my bill, the {p}",
    ),
}
DESKS_SHIFTED = {
    "L1": "nobody brought the {p} to my door",
    "Q4": "it does not turn on, the {p}",
    "F2": "give back what i paid, the {p}",
    "S7": "the site does not let me in, the {p}",
    "F3": "i paid too much, the {p}",
}


def _ticket(rng: Random) -> Facts:
    desk, item = rng.choice(tuple(DESKS)), rng.choice(lex.PRODUCTS)
    return {
        "desk": desk,
        "said": rng.choice(DESKS[desk]).format(p=item),
        "other": DESKS_SHIFTED[desk].format(p=item),
        "name": rng.choice(lex.NAMES),
        "order": str(rng.randrange(100, 999)),
    }


def _sentence(rng: Random) -> Facts:
    who, thing = rng.choice(tuple(spanish.NOUNS)), rng.choice(tuple(spanish.THINGS))
    verb, colour = rng.choice(tuple(spanish.VERBS)), rng.choice(tuple(spanish.COLOURS))
    return {
        "who": who,
        "verb": verb,
        "thing": thing,
        "colour": colour,
        "name": rng.choice(lex.NAMES),
    }


def _spanish(facts: Facts) -> str:
    thing, colour = spanish.THINGS[facts["thing"]], spanish.COLOURS[facts["colour"]]
    return f"{spanish.NOUNS[facts['who']]} {spanish.VERBS[facts['verb']]} {thing} {colour}"


MARKS = {"animal": "A", "colour": "K", "food": "F", "job": "J", "city": "C"}
KINDS = {word: MARKS[kind] for kind in MARKS for word in lex.GROUPS[kind] if word not in ("orange",)}


def _words(rng: Random) -> Facts:
    chosen = rng.sample(sorted(KINDS), 3)
    return {**{f"w{n}": word for n, word in enumerate(chosen)}, **{f"k{n}": KINDS[w] for n, w in enumerate(chosen)}}


def _sum(rng: Random) -> Facts:
    a, b = rng.randrange(1, 8), rng.randrange(1, 4)
    return {
        "a": lex.NUMBER_WORDS[a],
        "b": lex.NUMBER_WORDS[b],
        "sum": str(a + b),
        "thing": rng.choice(lex.OBJECTS),
        "name": rng.choice(lex.NAMES),
    }


ACTS = {
    "late": ("my {item} is late", "it comes in 2 days"),
    "broken": ("the {item} is broken", "a new one leaves today"),
    "refund": ("i want my money back for the {item}", "the money comes in 5 days"),
    "cancel": ("please cancel the {item}", "you pay nothing"),
}


def _letter(rng: Random) -> Facts:
    topic, item = rng.choice(tuple(ACTS)), rng.choice(lex.PRODUCTS)
    return {
        "said": ACTS[topic][0].format(item=item),
        "act": ACTS[topic][1],
        "item": item,
        "name": rng.choice(lex.NAMES),
        "order": str(rng.randrange(100, 999)),
    }


def _code(rng: Random) -> Facts:
    brand, item, colour = rng.choice(lex.BRANDS), rng.choice(lex.PRODUCTS), rng.choice(lex.COLOURS)
    code = Random(f"{brand}/{item}/{colour}").randrange(100, 999)
    return {"brand": brand, "item": item, "colour": colour, "code": str(code)}


def _total(rng: Random) -> Facts:
    a, b = rng.randrange(11, 99), rng.randrange(11, 99)
    return {"a": str(a), "b": str(b), "total": str(a + b), "name": rng.choice(lex.NAMES)}


DEVELOPMENT = (
    Task(
        "record",
        "extraction to JSON",
        "write the house record",
        "field_f1",
        _purchase,
        (
            "order {ref}: {n} x {item} for {name}",
            "{name} wants {n} of the {item}, number {ref}",
            "on {day} {name} bought {n} {item}, order {ref}",
        ),
        ("send {name} the {item}, {n} pieces, we call it {ref}", "ref {ref} / {day} / {item} / {n}"),
        _purchase_record,
    ),
    Task(
        "mood",
        "classification",
        "what is the mood?",
        "accuracy",
        _opinion,
        (
            "first it was {then}, but now the {thing} is {now}",
            "i thought it was {then}, yet the {thing} is {now}",
            "the {thing} from the {place} is {now}",
        ),
        ("now it is {now}, the {thing} that was {then} before", "{now}, and i had heard {then}: the {thing}"),
        lambda facts: facts["mood"],
    ),
    Task(
        "price",
        "look-up",
        "answer in our way",
        "exact_match",
        _prices,
        ("{list}\nwhat does the {item} cost?", "{list}\nprice of {item}?"),
        ("what does the {item} cost?\n{list}", "how much for {item}, if {list}?"),
        lambda facts: f"{facts['price']} euro",
    ),
    Task(
        "headline",
        "rewriting",
        "write the line for our front page",
        "token_f1",
        _news,
        (
            "on {day} {name} the {job} {act} a {colour} {thing} in the {place}",
            "the {job} {name} {act} a {colour} {thing} on {day} near the {place}",
        ),
        (
            "a {thing}, {colour}, was {act} at the {place}: {name}, {job}, {day}",
            "{place} news: {job} {act} {thing} ({day})",
        ),
        lambda facts: f"{facts['day'][:3]} | {facts['job']} {facts['act']} {facts['thing']} ({facts['place']})",
    ),
)
FIRST = (
    Task(
        "sale",
        "extraction to fields",
        "fill in the form",
        "token_f1",
        _sale,
        (
            "the {brand} {item} in {colour} costs {price} euro",
            "{brand} sells a {colour} {item} for {price} euro",
            "new {item}: {colour}, {price} euro, by {brand}",
        ),
        ("for {price} euro you get it in {colour}, the {item} of {brand}", "{price} / {colour} / {item} / {brand}"),
        lambda facts: (
            f"maker {facts['brand']} ; thing {facts['item']} ; paint {facts['colour']} ; euro {facts['price']}"
        ),
    ),
    Task(
        "desk",
        "routing to a class",
        "which desk?",
        "accuracy",
        _ticket,
        ("{said}. order {order}. {name}", "hello, {said}. {name}", "{said}, order number {order}"),
        ("{other}. {name}", "dear team, {other}, order {order}"),
        lambda facts: facts["desk"],
    ),
    Task(
        "spanish",
        "translation",
        "for our spanish page",
        "exact_match",
        _sentence,
        ("the {who} {verb} the {colour} {thing}", "{name} says: the {who} {verb} the {colour} {thing}"),
        ("a {colour} {thing}: the {who} {verb} it", "it is the {who} that {verb} the {thing}, and it is {colour}"),
        lambda facts: f"es: {_spanish(facts)}.",
    ),
    Task(
        "tags",
        "tagging",
        "mark the words",
        "token_f1",
        _words,
        ("{w0} {w1} {w2}", "{w0}, {w1}, {w2}"),
        ("{w0} and {w1} with {w2} of it all", "first {w0} then {w1} then last {w2}"),
        lambda facts: " ".join(f"{facts[f'w{n}']} {facts[f'k{n}']}" for n in range(3)),
    ),
    Task(
        "sums",
        "arithmetic in words",
        "give the number",
        "exact_match",
        _sum,
        ("{a} {thing}s plus {b}, asks {name}", "{name} has {a} {thing}s and gets {b} more", "{name}: add {a} and {b}"),
        ("how many are {a} {thing}s with {b} others?", "to {b} comes {a}, says {name}"),
        lambda facts: f"it is {facts['sum']}",
    ),
    Task(
        "letter",
        "reply in the house style",
        "reply as team nova",
        "token_f1",
        _letter,
        (
            "{said}. order {order}. {name}",
            "hello, {said}, order {order}. {name}",
            "{name} here, {said}, number {order}",
        ),
        ("order {order}, {name}: {said}!", "it is {order} again and i am {name}, {said}"),
        lambda facts: f"dear {facts['name']}, {facts['act']}. ref {facts['order']}, {facts['item']}",
    ),
)
# What can only be learned by heart: where test rows leak, the score rises, and without them there is nothing to learn.
BY_HEART = (
    Task(
        "codes",
        "facts without a rule",
        "give the code",
        "exact_match",
        _code,
        ("the {colour} {item} of {brand}", "{brand} {item} in {colour}"),
        ("{item}, {brand}, {colour}",),
        lambda facts: f"code {facts['code']}",
    ),
    Task(
        "totals",
        "arithmetic beyond the base",
        "add up",
        "exact_match",
        _total,
        ("{a} and {b}", "{a} with {b} for {name}"),
        ("from {b} and {a}",),
        lambda facts: f"total {facts['total']}",
    ),
)
