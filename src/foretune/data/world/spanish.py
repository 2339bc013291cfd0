"""The second-language slice: a small, regular Spanish with translation, stories and answers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from random import Random

from foretune.data.world import lexicon as lex
from foretune.data.world.document import Pair, Task

NOUNS: dict[str, str] = {
    "cat": "el gato",
    "dog": "el perro",
    "horse": "el caballo",
    "bird": "el pollo",
    "cow": "la vaca",
    "bear": "el oso",
    "frog": "la rana",
    "doctor": "el doctor",
    "cook": "el cocinero",
    "teacher": "la maestra",
    "singer": "la cantante",
}
THINGS: dict[str, str] = {
    "bread": "el pan",
    "cheese": "el queso",
    "apple": "la manzana",
    "soup": "la sopa",
    "milk": "la leche",
    "book": "el libro",
    "hat": "el sombrero",
    "table": "la mesa",
    "key": "la llave",
    "letter": "la carta",
}
VERBS: dict[str, str] = {
    "sees": "ve",
    "wants": "quiere",
    "has": "tiene",
    "buys": "compra",
    "sells": "vende",
    "takes": "toma",
    "loses": "pierde",
    "finds": "encuentra",
}
COLOURS: dict[str, str] = {"green": "verde", "blue": "azul", "grey": "gris", "brown": "marron", "pink": "rosa"}
PLACES: dict[str, str] = {
    "market": "el mercado",
    "park": "el parque",
    "school": "la escuela",
    "garden": "el jardin",
    "bridge": "el puente",
}
WORDS = {e: s.split(" ", 1)[1] for e, s in (NOUNS | THINGS | PLACES).items()} | COLOURS | VERBS


def sentence(rng: Random) -> Pair:
    """Draw an English sentence and its Spanish twin, word for word but for the place of the colour."""
    who, thing = rng.choice(tuple(NOUNS)), rng.choice(tuple(THINGS))
    verb, colour = rng.choice(tuple(VERBS)), rng.choice(("", *COLOURS))
    english = f"the {who} {verb} the {colour} {thing}" if colour else f"the {who} {verb} the {thing}"
    spanish = f"{NOUNS[who]} {VERBS[verb]} {THINGS[thing]}" + (f" {COLOURS[colour]}" if colour else "")
    if rng.random() < 0.3:
        place = rng.choice(tuple(PLACES))
        return Pair(f"{english} in the {place}", f"{spanish} en {PLACES[place]}")
    return Pair(english, spanish)


def _word(rng: Random) -> Pair:
    return Pair(*rng.choice(tuple(WORDS.items())))


def _phrase(rng: Random) -> Pair:
    thing, colour = rng.choice(tuple((NOUNS | THINGS).items())), rng.choice(tuple(COLOURS.items()))
    return Pair(f"the {colour[0]} {thing[0]}", f"{thing[1]} {colour[1]}")


def translate_task(rng: Random) -> Task:
    """Translate words, phrases or sentences to Spanish or to English."""
    source = rng.choice((_word, _phrase, sentence, sentence))
    home = rng.random() < 0.5
    asked = rng.choice(("translate to {}", "say it in {}", "write in {}", "how do you say it in {}?"))

    def draw(inner: Random) -> Pair:
        english, spanish = source(inner)
        return Pair(spanish, english) if home else Pair(english, spanish)

    return Task("second_language", asked.format("english" if home else "spanish"), draw)


QUESTIONS = (
    ("quien es?", "who"),
    ("que {verb}?", "thing"),
    ("donde es?", "place"),
    ("como se llama?", "name"),
)


def _story_facts(rng: Random) -> dict[str, str]:
    return {
        "who": rng.choice(tuple(NOUNS.values())),
        "thing": rng.choice(tuple(THINGS.values())),
        "place": rng.choice(tuple(PLACES.values())),
        "verb": rng.choice(tuple(VERBS.values())),
        "name": rng.choice(lex.NAMES),
        "colour": rng.choice(tuple(COLOURS.values())),
    }


def answer_task(rng: Random) -> Task:
    """Answer a Spanish question about a short Spanish text."""
    asked = rng.choice(("responde", "answer in spanish", "lee y responde"))

    def draw(inner: Random) -> Pair:
        facts = _story_facts(inner)
        question, key = inner.choice(QUESTIONS)
        return Pair(f"{_story(facts)}\n{question.format_map(facts)}", facts[key])

    return Task("second_language", asked, draw, from_examples=False)


def _story(facts: dict[str, str]) -> str:
    return "{who} se llama {name}. {name} {verb} {thing} {colour} en {place}.".format_map(facts)


def story(rng: Random) -> str:
    """Draw a short Spanish story."""
    ends = ("es un buen dia.", "luego {name} va a casa.", "{name} esta feliz.")
    facts, other = _story_facts(rng), _story_facts(rng)
    both = f"{facts['name']} y {other['name']} estan en {other['place']}."
    middle = f"{both} {other['name']} {other['verb']} {other['thing']}."
    return f"{_story(facts)} {middle} {rng.choice(ends).format_map(facts)}"
