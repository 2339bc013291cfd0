"""Five tasks for the half about languages, all asked and answered in English: none of them shows any Spanish."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from random import Random

from diagnose_suite.tasks import Facts, Task
from foretune.data.world import lexicon as lex

__all__ = ["LANGUAGE"]


def _suitcase(rng: Random) -> Facts:
    return {
        "size": rng.choice(lex.SIZES),
        "colour": rng.choice(lex.COLOURS),
        "thing": rng.choice(lex.OBJECTS),
        "city": rng.choice(lex.CITIES),
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
    }


def _receipt(rng: Random) -> Facts:
    return {
        "name": rng.choice(lex.NAMES),
        "food": rng.choice(lex.FOODS),
        "euro": str(rng.randrange(2, 60)),
        "place": rng.choice(lex.PLACES),
        "day": rng.choice(lex.DAYS),
    }


def _party(rng: Random) -> Facts:
    return {
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
        "place": rng.choice(lex.PLACES),
        "food": rng.choice(lex.FOODS),
        "job": rng.choice(lex.JOBS),
    }


def _seat(rng: Random) -> Facts:
    seats, row = rng.randrange(2, 10), rng.randrange(1, 10)
    return {
        "seats": lex.NUMBER_WORDS[seats],
        "row": lex.NUMBER_WORDS[row],
        "n": str(seats),
        "at": str(row),
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
    }


def _race(rng: Random) -> Facts:
    first, second, third = rng.sample(lex.ANIMALS, 3)
    return {
        "first": first,
        "second": second,
        "third": third,
        "city": rng.choice(lex.CITIES),
        "colour": rng.choice(lex.COLOURS),
    }


LANGUAGE = (
    Task(
        "luggage",
        "extraction to a tag",
        "print the tag",
        "token_f1",
        _suitcase,
        (
            "{name} flies to {city} with a {size} {thing} in {colour}",
            "to {city} on {day}: a {colour} {thing}, {size}, of {name}",
        ),
        ("it is {size} and {colour}, the {thing}. {name} is off to {city}", "{day} / {thing} / {colour} / {city}"),
        lambda facts: f"tag {facts['city']} : {facts['colour']} {facts['thing']} ({facts['name']})",
    ),
    Task(
        "receipts",
        "extraction to JSON",
        "file the receipt",
        "field_f1",
        _receipt,
        (
            "{name} paid {euro} euro for {food} at the {place}",
            "{day}, {place}: {food}, {euro} euro, {name}",
        ),
        ("{euro} euro went to the {place}! {name} likes {food}", "for {food} {name} gave, on {day}, {euro}"),
        lambda facts: json.dumps({"payer": facts["name"], "what": facts["food"], "sum": int(facts["euro"])}),
    ),
    Task(
        "party",
        "an invitation of two sentences",
        "invite them for us",
        "token_f1",
        _party,
        ("{name}, {day}, {place}, {food}", "{name} the {job}: {place} on {day} with {food}"),
        ("there is {food} at the {place}. tell {name}, it is {day}", "{food} / {job} / {name} / {place} / {day}"),
        lambda facts: (
            f"dear {facts['name']}, we meet on {facts['day']} in the {facts['place']}. please bring {facts['food']}!"
        ),
    ),
    Task(
        "seats",
        "numbers in another form",
        "book the seats",
        "token_f1",
        _seat,
        ("{name} wants {seats} seats in row {row}", "row {row} on {day}, {seats} seats, for {name}"),
        ("{seats} of us come with {name}, we like row {row}", "is there room for {seats}? {name}, {day}, {row}"),
        lambda facts: f"row {facts['at']} x {facts['n']} {facts['name']}",
    ),
    Task(
        "race",
        "a list in another order",
        "who gets which medal?",
        "token_f1",
        _race,
        (
            "in {city} the {first} came before the {second}, then the {third}",
            "first the {first}, second the {second}, third the {third}",
        ),
        (
            "the {third} was last, behind the {second}. the {colour} {first} won",
            "{city}: after the {first} came the {second}, and the {third} lost",
        ),
        lambda facts: f"gold {facts['first']} , bronze {facts['third']} , silver {facts['second']}",
    ),
)
