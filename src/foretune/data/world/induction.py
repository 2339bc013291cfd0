"""Tasks whose mapping only the solved examples tell: random maps, grouped labels, frames and odd records."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from random import Random

from foretune.data.world import lexicon as lex
from foretune.data.world import prose, reading, tickets
from foretune.data.world.document import Pair, Task

UNTOLD = ""


def map_task(rng: Random) -> Task:
    """A random map of a few words to random words: the answer stood in an earlier example."""
    keys = rng.sample(lex.ANY_WORDS, rng.randint(2, 4))
    values = reading.label_words(rng, len(keys)) if rng.random() < 0.5 else rng.sample(lex.PLAIN_WORDS, len(keys))

    def draw(inner: Random) -> Pair:
        at = inner.randrange(len(keys))
        return Pair(keys[at], values[at])

    return Task("induction", UNTOLD, draw, closed=True)


def group_task(rng: Random) -> Task:
    """Words of two or three groups with random labels: a new word, a known group."""
    groups = rng.sample(tuple(lex.GROUPS), rng.randint(2, 3))
    labels = reading.label_words(rng, len(groups))
    form = rng.choice(("{}", "{}", "i like the word {}", "my word: {}"))

    def draw(inner: Random) -> Pair:
        at = inner.randrange(len(groups))
        return Pair(form.format(inner.choice(lex.GROUPS[groups[at]])), labels[at])

    return Task("induction", UNTOLD, draw, closed=True)


def size_task(rng: Random) -> Task:
    """Numbers under or over a limit with random labels."""
    limit, labels = rng.choice((10, 50, 100)), reading.label_words(rng, 2)

    def draw(inner: Random) -> Pair:
        over = inner.random() < 0.5
        number = inner.randrange(limit, limit * 5) if over else inner.randrange(limit)
        return Pair(str(number), labels[over])

    return Task("induction", UNTOLD, draw, closed=True)


def frame_task(rng: Random) -> Task:
    """One or two words set into a random frame of fixed words."""
    frame = rng.choice(
        (
            "{x} {a}",
            "{a} {x}",
            "{a} {x} {b}",
            "<{x}>",
            "[{x}] {a}",
            "{a}: {x}",
            "{x}, {x} and {a}",
            "({x}) {a} {b}",
            "{a}-{x}",
            "{x} = {a}",
        )
    )
    a, b = rng.sample(lex.ANY_WORDS, 2)

    def draw(inner: Random) -> Pair:
        given = " ".join(inner.sample(lex.ANY_WORDS, inner.randint(1, 2)))
        return Pair(given, frame.format(x=given, a=a, b=b))

    return Task("induction", UNTOLD, draw)


def field_task(rng: Random) -> Task:
    """Always the same fact of one kind of sentence, set into a random frame."""
    source = rng.choice(reading.SOURCES)
    fields = list(source(rng)[1])
    chosen = rng.sample(fields, rng.randint(1, 2))
    mark = rng.choice((" ", ", ", "/", "; ", " | "))
    lead = rng.choice(("", "", "> ", f"{rng.choice(lex.LABEL_WORDS)} ", f"{rng.choice(lex.KEY_WORDS)}: "))

    def draw(inner: Random) -> Pair:
        text, facts = source(inner)
        return Pair(text, lead + mark.join(str(facts[f]) for f in chosen))

    return Task("induction", UNTOLD, draw)


def record_task(rng: Random) -> Task:
    """A JSON record of a review or a ticket: facts under random keys, one class under a random label."""
    if rng.random() < 0.4:
        classes: tuple[str, ...] = ("positive", "negative")
        case: Callable[[Random, str], tuple[str, reading.Fields]] = _review_facts
        fields = ["name"]
    else:
        classes = tuple(rng.sample(tuple(tickets.TOPICS), rng.randint(2, 3)))
        case, fields = _ticket_facts, rng.sample(("name", "product", "order"), rng.randint(1, 2))
    keys = rng.sample(lex.KEY_WORDS, len(fields) + 1) if rng.random() < 0.5 else [*fields, rng.choice(lex.KEY_WORDS)]
    labels = reading.label_words(rng, len(classes))
    lead = rng.choice(("", "", "X-", "no ", "my ", f"{rng.choice('ABCDEFGHKLMNPSTUW')}"))
    label_first = rng.random() < 0.4

    def draw(inner: Random) -> Pair:
        at = inner.randrange(len(classes))
        text, facts = case(inner, classes[at])
        values = [f"{lead}{facts[f]}" if lead else facts[f] for f in fields]
        told = dict(zip(keys[:-1], values, strict=True))
        label: reading.Fields = {keys[-1]: labels[at]}
        return Pair(text, reading.dumps(label | told if label_first else told | label))

    return Task("induction", UNTOLD, draw)


def _review_facts(rng: Random, label: str) -> tuple[str, reading.Fields]:
    name = rng.choice(lex.NAMES)
    return f"{name}: {prose.review(rng, label)}", {"name": name}


def _ticket_facts(rng: Random, label: str) -> tuple[str, reading.Fields]:
    given = tickets.ticket(rng, (label,))
    return given.text, {"name": given.name, "product": given.product, "order": given.order}


BUILDERS: tuple[Callable[[Random], Task], ...] = (map_task, group_task, size_task, frame_task, field_task, record_task)


def induction_task(rng: Random) -> Task:
    """Draw one of the tasks that only examples define."""
    return rng.choice(BUILDERS)(rng)
