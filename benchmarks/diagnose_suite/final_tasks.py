"""Eleven tasks for the last round: nine to learn, most of them with tables that few rows do not show, two by heart."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from random import Random

from diagnose_suite.tasks import Facts, Task
from foretune.data.world import lexicon as lex
from foretune.data.world import spanish

__all__ = ["FINAL", "FINAL_BY_HEART"]


def _dealt(words: tuple[str, ...], among: tuple[str, ...]) -> dict[str, str]:
    """Each word with one of a few, in turn: a table that says nothing about the words it has not shown."""
    return {word: among[at % len(among)] for at, word in enumerate(words)}


def _call(rng: Random) -> Facts:
    """A sentence in one language, in the other, or with its place in the other than the rest."""
    who, thing = rng.choice(tuple(spanish.NOUNS)), rng.choice(tuple(spanish.THINGS))
    verb, place = rng.choice(tuple(spanish.VERBS)), rng.choice(tuple(spanish.PLACES))
    english, english_place = f"the {who} {verb} the {thing}", f"in the {place}"
    other = f"{spanish.NOUNS[who]} {spanish.VERBS[verb]} {spanish.THINGS[thing]}"
    other_place = f"en {spanish.PLACES[place]}"
    line = rng.choice(("home", "away", "both"))
    said = {
        "home": f"{english} {english_place}",
        "away": f"{other} {other_place}",
        "both": rng.choice((f"{english} {other_place}", f"{other} {english_place}")),
    }
    return {"said": said[line], "line": line, "name": rng.choice(lex.NAMES), "day": rng.choice(lex.DAYS)}


EATERS = {
    "hay": ("horse", "cow"),
    "meat": ("fox", "bear"),
    "corn": ("hen", "mouse"),
}
FEEDS = {animal: feed for feed, animals in EATERS.items() for animal in animals}


def _hungry(rng: Random) -> Facts:
    feed = rng.choice(tuple(EATERS))
    other = rng.choice([one for one in EATERS if one != feed])
    return {
        "animal": rng.choice(EATERS[feed]),
        "other": rng.choice(EATERS[other]),
        "feed": feed,
        "colour": rng.choice(lex.COLOURS),
        "name": rng.choice(lex.NAMES),
        "place": rng.choice(lex.PLACES),
        "day": rng.choice(lex.DAYS),
    }


BAYS = {"A": lex.FOODS, "B": lex.PRODUCTS, "C": lex.ANIMALS}


def _arrival(rng: Random) -> Facts:
    bay = rng.choice(tuple(BAYS))
    return {
        "item": rng.choice(BAYS[bay]),
        "bay": bay,
        "n": str(rng.randrange(2, 10)),
        "brand": rng.choice(lex.BRANDS),
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
    }


def _holiday(rng: Random) -> Facts:
    return {
        "name": rng.choice(lex.NAMES),
        "city": rng.choice(lex.CITIES),
        "day": rng.choice(lex.DAYS),
        "animal": rng.choice(lex.ANIMALS),
        "food": rng.choice(lex.FOODS),
    }


def _diary(rng: Random) -> Facts:
    who, thing = rng.choice(tuple(spanish.NOUNS)), rng.choice(tuple(spanish.THINGS))
    verb, place = rng.choice(tuple(spanish.VERBS)), rng.choice(tuple(spanish.PLACES))
    return {
        "who": who,
        "verb": verb,
        "thing": thing,
        "place": place,
        "es_who": spanish.NOUNS[who],
        "es_verb": spanish.VERBS[verb],
        "es_thing": spanish.THINGS[thing],
        "es_place": spanish.PLACES[place],
        "name": rng.choice(lex.NAMES),
    }


def _dinner(rng: Random) -> Facts:
    a, b, c = rng.sample(lex.FOODS, 3)
    return {"a": a, "b": b, "c": c, "name": rng.choice(lex.NAMES), "place": rng.choice(lex.PLACES)}


def _departure(rng: Random) -> Facts:
    start, hours = rng.randrange(1, 8), rng.randrange(1, 3)
    return {
        "a": lex.NUMBER_WORDS[start],
        "b": "one hour" if hours == 1 else f"{lex.NUMBER_WORDS[hours]} hours",
        "start": str(start),
        "end": str(start + hours),
        "city": rng.choice(lex.CITIES),
        "name": rng.choice(lex.NAMES),
        "day": rng.choice(lex.DAYS),
    }


PLAIN_VERBS = {
    "sees": "see",
    "wants": "want",
    "has": "have",
    "buys": "buy",
    "sells": "sell",
    "takes": "take",
    "loses": "lose",
    "finds": "find",
}


def _scene(rng: Random) -> Facts:
    verb = rng.choice(tuple(PLAIN_VERBS))
    return {
        "who": rng.choice(lex.JOBS),
        "verb": verb,
        "plain": PLAIN_VERBS[verb],
        "colour": rng.choice(lex.COLOURS),
        "thing": rng.choice(lex.OBJECTS),
        "place": rng.choice(lex.PLACES),
        "name": rng.choice(lex.NAMES),
    }


DOORS = _dealt(("doctor", "farmer", "baker", "driver", "singer", "judge"), ("K", "M", "T"))
FLOORS = _dealt(("nova", "delta", "vega", "zento"), ("1", "2"))


def _guest(rng: Random) -> Facts:
    job, brand = rng.choice(tuple(DOORS)), rng.choice(tuple(FLOORS))
    return {
        "job": job,
        "brand": brand,
        "door": DOORS[job],
        "floor": FLOORS[brand],
        "name": rng.choice(lex.NAMES),
        "city": rng.choice(lex.CITIES),
        "day": rng.choice(lex.DAYS),
    }


def _locker(rng: Random) -> Facts:
    name, animal, brand = rng.choice(lex.NAMES), rng.choice(lex.ANIMALS), rng.choice(lex.BRANDS)
    number = Random(f"{name}:{animal}:{brand}").randrange(100, 999)
    return {"name": name, "animal": animal, "brand": brand, "number": str(number)}


def _rest(rng: Random) -> Facts:
    a, b = rng.randrange(200, 999), rng.randrange(30, 99)
    return {"a": str(a), "b": str(b), "rest": str(a % b), "food": rng.choice(lex.FOODS)}


FINAL = (
    Task(
        "tongue",
        "classification by language",
        "which line takes the call?",
        "accuracy",
        _call,
        ("{said}", "{name}: {said}", "{said}. {name}, {day}"),
        ("hola! {said}, dice {name}", "please help, {said}, gracias. {name}"),
        lambda facts: facts["line"],
    ),
    Task(
        "feed",
        "classification beside a decoy",
        "what does it get?",
        "accuracy",
        _hungry,
        (
            "the {animal} of {name} is hungry",
            "a {colour} {animal} waits at the {place}, the {other} sleeps",
            "{day}: one {animal} for {name}",
        ),
        (
            "the {other} had its share, now comes the {animal}",
            "{other} first? no, {name}, this time it is the {colour} {animal}",
        ),
        lambda facts: facts["feed"],
    ),
    Task(
        "stock",
        "extraction to JSON with a class in it",
        "book it in",
        "field_f1",
        _arrival,
        (
            "{name} counted {n} of the {item}",
            "{item}: {n} pieces, from {brand}",
            "on {day} {brand} sent us {n} times the {item}",
        ),
        (
            "at last! {brand} brought what {name} asked for, {item} and {item}, {n} in all",
            "{n}, says {name}. all {item}, all by {brand}",
        ),
        lambda facts: json.dumps({"bay": facts["bay"], "n": int(facts["n"])}),
    ),
    Task(
        "postcard",
        "a text of three sentences",
        "write the card",
        "token_f1",
        _holiday,
        (
            "{name}, {city}: {animal}, {food}",
            "{name} is in {city} with a {animal} and {food}",
        ),
        (
            "{food} for a {animal}! it is {day}, {city} is far, and {name} has to go",
            "{day} / {food} / {animal} / {name} / {city}",
        ),
        lambda facts: (
            f"hello from {facts['city']}! our {facts['animal']} eats {facts['food']}. see you soon, {facts['name']}"
        ),
    ),
    Task(
        "diario",
        "a page of a diary in spanish",
        "escribe mi diario",
        "token_f1",
        _diary,
        (
            "the {who} {verb} the {thing} in the {place}. {name}",
            "{name} writes: in the {place} the {who} {verb} the {thing}",
        ),
        (
            "{place}: it is the {thing} that the {who} {verb}, and {name} knows it",
            "{thing}, {place}. the {who} {verb} it, {name}",
        ),
        lambda facts: (
            f"diario: {facts['es_who']} {facts['es_verb']} {facts['es_thing']} en {facts['es_place']}. {facts['name']}"
        ),
    ),
    Task(
        "menu",
        "a list turned round",
        "set the table backwards",
        "token_f1",
        _dinner,
        ("{name} eats {a}, then {b}, then {c}", "first {a}, next {b}, at the end {c}, for {name}"),
        (
            "{name} at the {place}: {c} comes last, {b} before it, {a} before both",
            "the last is {c}, the second {b}, and {name} begins with {a}",
        ),
        lambda facts: f"{facts['c']} after {facts['b']} after {facts['a']} ({facts['name']})",
    ),
    Task(
        "timetable",
        "numbers, one of them to be worked out",
        "put it on the board",
        "token_f1",
        _departure,
        (
            "the bus to {city} starts at {a} and takes {b}",
            "{name} goes to {city} at {a}, it is {b}",
        ),
        (
            "{b} on the road to {city}! the start is at {a} on {day}",
            "{city} is {b} away, says {name}, so be here at {a}",
        ),
        lambda facts: f"{facts['city']} {facts['start']} to {facts['end']}",
    ),
    Task(
        "riddle",
        "a statement made into a question",
        "make a riddle of it",
        "token_f1",
        _scene,
        (
            "the {who} {verb} the {thing} in the {place}",
            "{name}: in the {place} the {who} {verb} the {thing}",
        ),
        (
            "it is a {colour} {thing} that the {who} {verb}, and it happens at the {place}",
            "{name}: {place}, {thing}, {colour}. the {who} {verb} it",
        ),
        lambda facts: f"does the {facts['who']} {facts['plain']} the {facts['thing']}? yes, in the {facts['place']}",
    ),
    Task(
        "badge",
        "two tables and a name",
        "print the badge",
        "token_f1",
        _guest,
        (
            "{name} the {job} of {brand} comes on {day}",
            "{brand} sends its {job}, {name} from {city}",
        ),
        (
            "from {city}, on {day}: our {job} is {name}, paid by {brand}",
            "{day}! {name} comes for {brand}, and is a {job}",
        ),
        lambda facts: f"{facts['name']} at {facts['floor']} {facts['door']}",
    ),
)
FINAL_BY_HEART = (
    Task(
        "lockers",
        "facts without a rule",
        "open the right one",
        "exact_match",
        _locker,
        ("{name}, who has a {animal}, of {brand}", "at {brand}: {name} with the {animal}"),
        ("{animal}, {brand}, {name}",),
        lambda facts: f"locker {facts['number']}",
    ),
    Task(
        "rests",
        "arithmetic beyond the base",
        "what is left over?",
        "exact_match",
        _rest,
        ("{a} in packs of {b}", "{a} of the {food}, {b} a box"),
        ("boxes of {b} for {a}",),
        lambda facts: f"{facts['rest']} stay here",
    ),
)
