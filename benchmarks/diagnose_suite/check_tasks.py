"""Seven tasks for a second look at changed rules: six to learn, two of them with a low ceiling, and one by heart."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite.tasks import Facts, Task
from foretune.data.world import lexicon as lex
from foretune.data.world import spanish

__all__ = ["CHECK", "CHECK_BY_HEART"]


def _painting(rng: Random) -> Facts:
    rooms, painters = rng.randrange(1, 10), rng.randrange(2, 5)
    return {
        "rooms": lex.NUMBER_WORDS[rooms],
        "painters": lex.NUMBER_WORDS[painters],
        "days": lex.NUMBER_WORDS[-(-rooms // painters)],
        "place": rng.choice(lex.PLACES),
        "colour": rng.choice(lex.COLOURS),
        "name": rng.choice(lex.NAMES),
    }


WAYS = {"car": 4, "train": 15, "ship": 36}  # and the weight that each carries at most


def _freight(rng: Random) -> Facts:
    n, weight = rng.randrange(1, 5), rng.randrange(1, 10)
    return {
        "n": lex.NUMBER_WORDS[n],
        "weight": lex.NUMBER_WORDS[weight],
        "way": next(way for way, most in WAYS.items() if n * weight <= most),
        "city": rng.choice(lex.CITIES),
        "item": rng.choice(lex.PRODUCTS),
        "name": rng.choice(lex.NAMES),
    }


MOST_DAYS = {"grant": (1, 2, 3), "ask": (4, 5, 6), "refuse": (7, 8, 9)}


def _leave(rng: Random) -> Facts:
    verdict = rng.choice(tuple(MOST_DAYS))
    return {
        "verdict": verdict,
        "n": lex.NUMBER_WORDS[rng.choice(MOST_DAYS[verdict])],
        "name": rng.choice(lex.NAMES),
        "job": rng.choice(lex.JOBS),
        "city": rng.choice(lex.CITIES),
    }


CARRIERS = {"small": "bike", "light": "bike", "big": "train", "heavy": "train", "old": "car", "new": "car"}


def _parcel(rng: Random) -> Facts:
    size = rng.choice(tuple(CARRIERS))
    return {
        "size": size,
        "carrier": CARRIERS[size],
        "thing": rng.choice(lex.OBJECTS + lex.PRODUCTS),
        "colour": rng.choice(lex.COLOURS),
        "name": rng.choice(lex.NAMES),
        "city": rng.choice(lex.CITIES),
    }


def _notice(rng: Random) -> Facts:
    return {
        "who": rng.choice(tuple(spanish.NOUNS.values())),
        "lost": rng.choice(tuple(spanish.THINGS.values())),
        "colour": rng.choice(tuple(spanish.COLOURS.values())),
        "place": rng.choice(tuple(spanish.PLACES.values())),
        "name": rng.choice(lex.NAMES),
    }


RECIPES = {
    "soup": "cut the potato, put it in the hot pot, wait ten minutes, then add milk and butter and put it on the table",
    "tea": "put a lemon in the cup, add honey, wait two minutes, and give it hot with a small cake",
    "salad": "first cut the apple and the cheese, then add one lemon, keep it cold, and give it with bread",
    "cake": "add butter and honey to the egg, cook it for six minutes, then wait: it is good when it is cold",
    "rice": "cook it in milk until it is white, stop, add one apple, and put it in a big green cup",
}


def _dish(rng: Random) -> Facts:
    dish = rng.choice(tuple(RECIPES))
    other = rng.choice([one for one in RECIPES if one != dish])
    return {
        "dish": dish,
        "other": other,
        "recipe": RECIPES[dish],
        "name": rng.choice(lex.NAMES),
        "job": rng.choice(lex.JOBS),
        "day": rng.choice(lex.DAYS),
        "place": rng.choice(lex.PLACES),
    }


def _password(rng: Random) -> Facts:
    name, city, pet = rng.choice(lex.NAMES), rng.choice(lex.CITIES), rng.choice(lex.PETS)
    first, second = Random(f"{name}.{city}.{pet}").sample(lex.LABEL_WORDS[:12], 2)
    return {"name": name, "city": city, "pet": pet, "first": first, "second": second}


CHECK = (
    Task(
        "painting",
        "division rounded up, with a low ceiling",
        "how long is the work?",
        "exact_match",
        _painting,
        (
            "{painters} painters for the {place}, {rooms} rooms in {colour}",
            "{name} has {painters} painters and {rooms} rooms",
        ),
        ("{rooms} rooms are to be {colour}. {painters} come to paint", "{name}: the {place}, {rooms} by {painters}"),
        lambda facts: f"{facts['painters']} for {facts['days']} days",
    ),
    Task(
        "freight",
        "weighing up two numbers, with a low ceiling",
        "how do they travel?",
        "exact_match",
        _freight,
        (
            "{n} times a {item} of {weight} kilos, to {city}",
            "{name} sends {n} of the {item} to {city}, each is {weight} kilos",
        ),
        ("to {city}: a {item} has {weight} kilos. {name} has {n}", "{weight} kilos a {item}, and it is {n} for {name}"),
        lambda facts: f"{facts['n']} go by {facts['way']}",
    ),
    Task(
        "leave",
        "a verdict by a rule",
        "what does our rule say?",
        "accuracy",
        _leave,
        (
            "{name} the {job} wants {n} days off",
            "may {name} stay in {city} for {n} days?",
            "{n} days in {city}, asks the {job}",
        ),
        ("off to {city}! {name} is back in {n} days", "{job} {name}: holiday, {n}"),
        lambda facts: facts["verdict"],
    ),
    Task(
        "carrier",
        "the carrier of a parcel",
        "who carries it?",
        "accuracy",
        _parcel,
        (
            "a {size} {thing} for {name}",
            "{name} of {city} sends a {size} {thing}",
            "to {city}: one {size} {colour} {thing}",
        ),
        ("the {thing} for {city} is rather {size}", "{colour}, {size}, a {thing}! {name} is waiting"),
        lambda facts: facts["carrier"],
    ),
    Task(
        "aviso",
        "a notice in spanish",
        "escribe el aviso",
        "token_f1",
        _notice,
        (
            "{who} pierde {lost} {colour} en {place}. llama a {name}.",
            "{name} dice: en {place} {who} pierde {lost} {colour}.",
        ),
        (
            "{lost} {colour} no esta. {who} va a {place}. {name} ayuda.",
            "ayuda a {who}! {lost}, {colour}, {place}. {name}",
        ),
        lambda facts: (
            f"aviso: {facts['who']} busca {facts['lost']} {facts['colour']}. "
            f"lugar: {facts['place']}. escribe a {facts['name']}."
        ),
    ),
    Task(
        "recipe",
        "a long text from the house book",
        "read from our cook book",
        "token_f1",
        _dish,
        (
            "{name} the {job} wants {dish} on {day}",
            "how do we make {dish} for {name}?",
            "{dish} for the {job} at the {place}",
        ),
        ("no {other} on {day}! {name} asked for {dish}", "the {job} likes {other}, but {dish} is for today"),
        lambda facts: f"{facts['dish']}: {facts['recipe']}.",
    ),
)
CHECK_BY_HEART = (
    Task(
        "passwords",
        "facts without a rule",
        "say the password",
        "exact_match",
        _password,
        ("{name} from {city}, pet {pet}", "{pet} of {name}, {city}"),
        ("in {city}: {pet}, {name}",),
        lambda facts: f"open with {facts['first']} {facts['second']}",
    ),
)
