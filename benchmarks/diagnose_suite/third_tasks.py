"""Eleven tasks for the half that no threshold has seen: nine to learn, and two that only learning by heart solves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random

from diagnose_suite.tasks import Facts, Task
from foretune.data.world import lexicon as lex
from foretune.data.world import spanish

__all__ = ["THIRD", "THIRD_BY_HEART"]


def _visit(rng: Random) -> Facts:
    facts = {
        "name": rng.choice(lex.NAMES),
        "job": rng.choice(lex.JOBS),
        "city": rng.choice(lex.CITIES),
        "day": rng.choice(lex.DAYS),
        "colour": rng.choice(lex.COLOURS),
        "thing": rng.choice(lex.OBJECTS),
    }
    frames = (
        "{name} the {job} came from {city} on {day} with a {colour} {thing}",
        "on {day} {name} of {city} gave a {colour} {thing} to the {job}",
        "the {job} in {city} saw {name} and a {colour} {thing} on {day}",
    )
    frame = rng.choice(frames)
    hidden = frame.format_map({**facts, "name": "[person]"})
    return {**facts, "said": frame.format_map(facts), "hidden": hidden}


STEPS_AFTER = {"late": "call the driver", "broken": "send a new one", "lost": "ask the guard", "sold": "print the bill"}


def _meeting(rng: Random) -> Facts:
    state = rng.choice(tuple(STEPS_AFTER))
    return {
        "day": rng.choice(lex.DAYS),
        "name": rng.choice(lex.NAMES),
        "job": rng.choice(lex.JOBS),
        "place": rng.choice(lex.PLACES),
        "thing": rng.choice(lex.PRODUCTS),
        "state": state,
        "step": STEPS_AFTER[state],
    }


TOPICS = {"food": "T1", "animal": "T2", "city": "T3", "job": "T4"}


def _subject(rng: Random) -> Facts:
    topic = rng.choice(tuple(TOPICS))
    other = rng.choice([one for one in TOPICS if one != topic])
    a, b = rng.sample(lex.GROUPS[topic], 2)
    c = rng.choice(lex.GROUPS[other])
    return {"topic": TOPICS[topic], "a": a, "b": b, "c": c, "name": rng.choice(lex.NAMES)}


HARMS = {
    True: ("the {item} is broken", "there is a crack in the {item}", "the {item} smokes"),
    False: ("the {item} needs a new part", "the {item} is a little loud", "we want a second {item}"),
}
HURRIES = {
    True: ("it has to be today", "come at once", "we cannot wait"),
    False: ("it can wait", "any day is fine", "there is no hurry"),
}
LEVELS = {(True, True): "red", (True, False): "blue", (False, True): "grey", (False, False): "white"}


def _call(rng: Random) -> Facts:
    is_harm, is_hurry = rng.random() < 0.5, rng.random() < 0.5
    return {
        "harm": rng.choice(HARMS[is_harm]).format(item=rng.choice(lex.PRODUCTS)),
        "hurry": rng.choice(HURRIES[is_hurry]),
        "level": LEVELS[is_harm, is_hurry],
        "name": rng.choice(lex.NAMES),
        "city": rng.choice(lex.CITIES),
    }


def _shift_of_work(rng: Random) -> Facts:
    start = rng.randrange(1, 7)
    end = rng.randrange(start + 1, 11)
    return {
        "day": rng.choice(lex.DAYS),
        "a": lex.NUMBER_WORDS[start],
        "b": lex.NUMBER_WORDS[end],
        "start": str(start),
        "end": str(end),
        "name": rng.choice(lex.NAMES),
        "job": rng.choice(lex.JOBS),
    }


def _payment(rng: Random) -> Facts:
    cost = rng.randrange(1, 6)
    given = rng.randrange(cost + 1, 11)
    return {
        "given": lex.NUMBER_WORDS[given],
        "cost": lex.NUMBER_WORDS[cost],
        "back": lex.NUMBER_WORDS[given - cost],
        "food": rng.choice(lex.FOODS),
        "name": rng.choice(lex.NAMES),
    }


def _story(rng: Random) -> Facts:
    return {
        "who": rng.choice(tuple(spanish.NOUNS.values())),
        "name": rng.choice(lex.NAMES),
        "verb": rng.choice(tuple(spanish.VERBS.values())),
        "thing": rng.choice(tuple(spanish.THINGS.values())),
        "colour": rng.choice(tuple(spanish.COLOURS.values())),
        "place": rng.choice(tuple(spanish.PLACES.values())),
    }


def _both(rng: Random) -> Facts:
    who, thing = rng.choice(tuple(spanish.NOUNS)), rng.choice(tuple(spanish.THINGS))
    verb, colour = rng.choice(tuple(spanish.VERBS)), rng.choice(tuple(spanish.COLOURS))
    return {
        "es_who": spanish.NOUNS[who],
        "es_verb": spanish.VERBS[verb],
        "es_thing": spanish.THINGS[thing],
        "es_colour": spanish.COLOURS[colour],
        "who": who,
        "verb": verb,
        "thing": thing,
        "colour": colour,
        "name": rng.choice(lex.NAMES),
    }


def _errands(rng: Random) -> Facts:
    a, b, c = rng.sample(lex.FOODS + lex.OBJECTS, 3)
    return {"a": a, "b": b, "c": c, "name": rng.choice(lex.NAMES), "day": rng.choice(lex.DAYS)}


def _extension(rng: Random) -> Facts:
    job, city, name = (rng.choice(lex.JOBS), rng.choice(lex.CITIES), rng.choice(lex.NAMES))
    number = Random(f"{job}/{city}/{name}").randrange(1000, 9999)
    return {"job": job, "city": city, "name": name, "number": str(number)}


def _times(rng: Random) -> Facts:
    a, b = rng.randrange(12, 99), rng.randrange(12, 99)
    return {"a": str(a), "b": str(b), "product": str(a * b), "item": rng.choice(lex.PRODUCTS)}


THIRD = (
    Task(
        "redact",
        "copying with a change",
        "copy it and hide who it was",
        "token_f1",
        _visit,
        ("{said}", "note: {said}"),
        ("dear all, i heard that {said}, is it true?", "the {thing} again! {said}. who knows more?"),
        lambda facts: facts["hidden"],
    ),
    Task(
        "minutes",
        "a report of several sentences",
        "write the minutes",
        "token_f1",
        _meeting,
        (
            "{day}: {name} the {job}, {place}. the {thing} is {state}",
            "at the {place} on {day} with {job} {name}: the {thing} was {state}",
        ),
        ("{state}, that {thing}! so says {name} ({job}) on {day}, {place}", "{thing} {state} / {place} {job} {name}"),
        lambda facts: (
            f"we met {facts['name']}, our {facts['job']}, at the {facts['place']}. "
            f"topic: the {facts['thing']} is {facts['state']}. next: {facts['step']}."
        ),
    ),
    Task(
        "topic",
        "classification by subject",
        "which shelf?",
        "accuracy",
        _subject,
        ("{name} told us of {a} and {b}", "{a}, {b}. by {name}", "a text on {a} with {b}"),
        ("there is no {c} in it, but {a}, says {name}", "not {c}: {b}", "{c}? no, {name} means {a}"),
        lambda facts: facts["topic"],
    ),
    Task(
        "urgency",
        "classification by two signs",
        "which level?",
        "accuracy",
        _call,
        ("{harm}. {hurry}. {name}", "{name} of {city}: {hurry}, {harm}", "{harm}, {hurry}"),
        ("to whom it may concern, {hurry}! {city}. {harm}, {name}", "{city} / {hurry} / {name} / {harm}"),
        lambda facts: facts["level"],
    ),
    Task(
        "hours",
        "numbers in another form",
        "write the plan of the week",
        "token_f1",
        _shift_of_work,
        ("{name} works from {a} till {b} on {day}", "{day}: {job} {name}, {a} to {b}"),
        ("till {b} on {day}, but not before {a}, says {name}", "the {job} starts at {a}. {name} leaves at {b}. {day}."),
        lambda facts: f"{facts['day'][:3]}: from {facts['start']} to {facts['end']}",
    ),
    Task(
        "change",
        "subtraction in words",
        "how much is given back?",
        "token_f1",
        _payment,
        ("{name} pays {given} for {food} at {cost}", "{food} costs {cost}, {name} gives {given}"),
        (
            "the price of {food} is {cost}. what if {name} has only a {given}?",
            "{given} minus {cost}, {name} eats {food}",
        ),
        lambda facts: f"give {facts['name']} {facts['back']} for the {facts['food']}",
    ),
    Task(
        "ficha",
        "a form in spanish",
        "llena la ficha",
        "token_f1",
        _story,
        (
            "{who} se llama {name}. {name} {verb} {thing} {colour} en {place}.",
            "en {place} {name} {verb} {thing} {colour}. es {who}.",
        ),
        ("{thing} {colour}: {verb} {name}, {who}, {place}", "{place}, {who}, {name}. {thing} {colour}, {verb}"),
        lambda facts: (
            f"quien: {facts['name']} ({facts['who']}) ; cosa: {facts['thing']} {facts['colour']} ; "
            f"donde: {facts['place']}"
        ),
    ),
    Task(
        "both",
        "two languages side by side",
        "print it in both",
        "token_f1",
        _both,
        ("{es_who} {es_verb} {es_thing} {es_colour}", "{name}: {es_who} {es_verb} {es_thing} {es_colour}"),
        ("{es_thing} {es_colour}: {es_who} {es_verb}", "{es_thing} es {es_colour}, dice {name}. {es_who} {es_verb}"),
        lambda facts: (
            f"{facts['es_who']} {facts['es_verb']} {facts['es_thing']} {facts['es_colour']} = "
            f"the {facts['who']} {facts['verb']} the {facts['colour']} {facts['thing']}"
        ),
    ),
    Task(
        "errands",
        "a list in a set form",
        "make the list",
        "token_f1",
        _errands,
        ("{name} needs {a}, {b} and {c} on {day}", "on {day} get {a} and {b} and {c} for {name}"),
        ("for {name}, {day}: {a} + {b} + {c}", "{a}! {b}! {c}! {name} waits till {day}"),
        lambda facts: f"{facts['day']}, {facts['name']}: buy [{facts['a']}] [{facts['b']}] [{facts['c']}]",
    ),
)
THIRD_BY_HEART = (
    Task(
        "phones",
        "facts without a rule",
        "give the number",
        "exact_match",
        _extension,
        ("{name} the {job} in {city}", "{city}, {job} {name}"),
        ("{job} of {city}, called {name}",),
        lambda facts: f"dial {facts['number']}",
    ),
    Task(
        "products",
        "arithmetic beyond the base",
        "multiply",
        "exact_match",
        _times,
        ("{a} by {b}", "{a} {item}s at {b} euro"),
        ("{b} times {a}",),
        lambda facts: f"makes {facts['product']}",
    ),
)
