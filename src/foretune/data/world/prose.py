"""Plain prose of the world: stories, news, products and people, each with the facts it states."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foretune.data.world import lexicon as lex
from foretune.data.world.document import Pair


@dataclass(frozen=True)
class Passage:
    """A text, its one-sentence summary, and questions that the text answers."""

    text: str
    summary: str
    questions: tuple[Pair, ...]
    topic: str = "story"


PLOTS = (
    (
        "{friend} was {feeling} because the {colour} {thing} was gone. they looked in the {place} and found it.",
        "{name} and {friend} found the {colour} {thing} in the {place}.",
        "where was the {thing}?",
        "in the {place}",
    ),
    (
        "{friend} wanted to sell a {colour} {thing}. {name} bought it for {price} coins and put it in the {place}.",
        "{name} bought a {colour} {thing} from {friend}.",
        "what did it cost?",
        "{price} coins",
    ),
    (
        "{friend} was hungry. {name} made {food} and they ate it in the {place}. then {friend} was {feeling} no more.",
        "{name} made {food} for {friend}.",
        "what did they eat?",
        "{food}",
    ),
    (
        "{name} had a {colour} {thing} for {friend}. it was a gift. {friend} was {feeling} before but smiled now.",
        "{name} gave {friend} a {colour} {thing}.",
        "what was the gift?",
        "a {colour} {thing}",
    ),
    (
        "the {animal} ran to the {place} and took the {food} of {friend}. {friend} was {feeling}. {name} said sorry.",
        "the {animal} of {name} took the {food} of {friend}.",
        "what did the {animal} take?",
        "the {food}",
    ),
)
OPENERS = (
    "{name} is a {job} in {city}. {pronoun} has a {size} {animal} called {pet}.",
    "in {city} there lives a {job} called {name}. the {animal} of {name} is called {pet} and is very {size}.",
    "{name} works as a {job} in {city} and has a {size} {animal}. its name is {pet}.",
)
ENDINGS = ("they were happy.", "it was a good day.", "then {name} went home.", "{pet} was there too.", "")


def story(rng: Random) -> Passage:
    """Draw a short story with named characters and consistent facts."""
    name, friend = rng.sample(lex.NAMES, 2)
    facts = {
        "name": name,
        "friend": friend,
        "pronoun": "she" if name in lex.WOMEN else "he",
        "job": rng.choice(lex.JOBS),
        "city": rng.choice(lex.CITIES),
        "size": rng.choice(lex.SIZES),
        "animal": rng.choice(lex.ANIMALS),
        "pet": rng.choice(lex.PETS),
        "colour": rng.choice(lex.COLOURS),
        "thing": rng.choice(lex.OBJECTS),
        "place": rng.choice(lex.PLACES),
        "food": rng.choice(lex.FOODS),
        "feeling": rng.choice(lex.FEELINGS),
        "price": str(rng.randrange(2, 60)),
        "day": rng.choice(lex.DAYS),
    }
    plot, summary, question, answer = rng.choice(PLOTS)
    meeting = rng.choice(("one {day} {name} met {friend}. ", "on {day} {friend} came to see {name}. "))
    text = f"{rng.choice(OPENERS)} {meeting}{plot} {rng.choice(ENDINGS)}".format_map(facts).strip()
    asked: tuple[Pair, ...] = (
        Pair(question, answer),
        Pair("what is the job of {name}?", "{job}"),
        Pair("where does {name} live?", "{city}"),
        Pair("who met {name}?", "{friend}"),
        Pair("what is the {animal} called?", "{pet}"),
        Pair("which day was it?", "{day}"),
        Pair("how was {friend}?", "{feeling}"),
    )
    if "{feeling}" not in plot:
        asked = asked[:-1]
    questions = tuple(Pair(q.format_map(facts), a.format_map(facts)) for q, a in asked)
    return Passage(text, summary.format_map(facts), questions)


NEWS: dict[str, tuple[tuple[str, str], ...]] = {
    "weather": (
        (
            "heavy rain hit {city} on {day}. the {place} was closed and {n} people stayed at home.",
            "rain closed the {place} in {city}.",
        ),
        (
            "snow fell in {city} on {day}. {n} cars were stuck near the {place}.",
            "snow stopped {n} cars in {city}.",
        ),
        (
            "a strong wind broke {n} trees at the {place} of {city} on {day}. nobody was hurt.",
            "wind broke {n} trees in {city}.",
        ),
    ),
    "sport": (
        (
            "the team of {city} won the match on {day} with {n} points. {name} was the best player.",
            "{city} won the match.",
        ),
        ("{name} ran {n} miles in {city} on {day} and set a new record.", "{name} set a record in {city}."),
        (
            "the team of {city} lost on {day}. coach {name} said they must train for {n} weeks.",
            "{city} lost the match.",
        ),
    ),
    "business": (
        (
            "the firm {brand} opened a shop in {city} on {day}. it sells {n} kinds of {product}.",
            "{brand} opened a shop in {city}.",
        ),
        ("{brand} will cut {n} jobs in {city}. boss {name} said so on {day}.", "{brand} cuts {n} jobs in {city}."),
        (
            "the price of the {brand} {product} rose by {n} percent on {day}, said {name}.",
            "the {brand} {product} costs {n} percent more.",
        ),
    ),
    "culture": (
        (
            "{name} sang at the {place} of {city} on {day}. {n} people came to listen.",
            "{name} sang for {n} people in {city}.",
        ),
        (
            "a new film by {name} was shown in {city} on {day}. it is {n} minutes long.",
            "{name} showed a film in {city}.",
        ),
        (
            "painter {name} shows {n} pictures at the {place} of {city} from {day}.",
            "{name} shows {n} pictures in {city}.",
        ),
    ),
}


def news(rng: Random) -> Passage:
    """Draw a small news item of one of four topics."""
    topic = rng.choice(tuple(NEWS))
    facts = {
        "city": rng.choice(lex.CITIES),
        "day": rng.choice(lex.DAYS),
        "place": rng.choice(lex.PLACES),
        "n": str(rng.randrange(2, 90)),
        "name": rng.choice(lex.NAMES),
        "brand": rng.choice(lex.BRANDS),
        "product": rng.choice(lex.PRODUCTS),
    }
    body, summary = rng.choice(NEWS[topic])
    asked = [Pair("which day was it?", facts["day"])]
    if "{name}" in body:
        asked.append(Pair("which person is named?", facts["name"]))
    if "{city}" in body:
        asked.append(Pair("which city is it about?", facts["city"]))
    return Passage(body.format_map(facts), summary.format_map(facts), tuple(asked), topic)


def product(rng: Random) -> Passage:
    """Draw a product description."""
    brand, thing, colour = rng.choice(lex.BRANDS), rng.choice(lex.PRODUCTS), rng.choice(lex.COLOURS)
    price, size, city = rng.randrange(5, 99), rng.choice(lex.SIZES), rng.choice(lex.CITIES)
    first = rng.choice(("the {b} {t} is {s} and {c}.", "new: the {s} {t} by {b}, in {c}.", "{b} sells a {s} {c} {t}."))
    second = rng.choice(("it costs {p} euro.", "the price is {p} euro.", "you pay {p} euro."))
    third = rng.choice(("it is made in {m}.", "it comes from {m}.", "we ship it from {m}."))
    text = f"{first} {second} {third}".format(b=brand, t=thing, s=size, c=colour, p=price, m=city)
    questions = (
        Pair("what does it cost?", f"{price} euro"),
        Pair("which colour is it?", colour),
        Pair("who makes it?", brand),
        Pair("where does it come from?", city),
    )
    return Passage(text, f"a {colour} {thing} by {brand} for {price} euro.", questions, "product")


REVIEWS: dict[str, tuple[str, ...]] = {
    "positive": (
        "the {thing} is {word}.",
        "i love this {thing}, really {word}.",
        "{word}, this {thing}!",
        "{word} {thing}, i would buy it again.",
        "so happy with the {thing}. {word}!",
    ),
    "negative": (
        "the {thing} is {word}.",
        "i hate this {thing}, really {word}.",
        "{word}, this {thing}!",
        "{word} {thing}, never again.",
        "so angry about the {thing}. {word}!",
    ),
    "neutral": (
        "the {thing} is {word}.",
        "the {thing} came on {day}. it is {word}.",
        "just one more {word} {thing}.",
        "the {thing} is for daily use. {word}.",
        "i got the {thing} on {day}. {word}.",
    ),
}
REVIEW_WORDS = {"positive": lex.GOOD, "negative": lex.BAD, "neutral": lex.PLAIN}


def review(rng: Random, sentiment: str) -> str:
    """Return a short review of the given sentiment (`positive`, `negative` or `neutral`)."""
    thing = rng.choice(lex.PRODUCTS + lex.FOODS + ("film", "book", "song", "hotel", "service"))
    word = rng.choice(REVIEW_WORDS[sentiment])
    return rng.choice(REVIEWS[sentiment]).format(thing=thing, word=word, day=rng.choice(lex.DAYS))
