"""Support tickets of the world: a topic, facts, a tone and typos, with the replies that fit them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foretune.data.world import lexicon as lex

TOPICS: dict[str, tuple[str, ...]] = {
    "delivery": (
        "my {product} has not arrived yet",
        "the parcel with the {product} is late",
        "i am still waiting for the {product}",
        "where is my {product}? it was due on {day}",
        "the courier never came with my {product}",
    ),
    "damage": (
        "the {product} came broken",
        "there is a crack in the {product}",
        "the {product} was damaged in the box",
        "my new {product} has a big scratch",
        "the {product} arrived in pieces",
    ),
    "refund": (
        "i want my money back for the {product}",
        "please refund the {product}",
        "i sent the {product} back but got no refund",
        "when do i get my money for the {product}",
        "i returned the {product} on {day} and want the refund",
    ),
    "account": (
        "i cannot log in to my account",
        "my password does not work",
        "the login page shows an error",
        "please reset my password",
        "my account is locked since {day}",
    ),
    "billing": (
        "i was charged twice for the {product}",
        "the invoice for the {product} is wrong",
        "i need a copy of the invoice for the {product}",
        "there is an error on my bill for the {product}",
        "the price on the invoice of the {product} is too high",
    ),
    "cancel": (
        "please cancel my order of the {product}",
        "i do not want the {product} any more, stop the order",
        "i ordered the {product} by mistake, cancel it",
        "can you cancel the {product} before {day}",
        "i changed my mind, cancel the {product}",
    ),
}
REPLIES: dict[str, tuple[str, ...]] = {
    "delivery": ("we will trace the parcel today.", "your parcel is on its way."),
    "damage": ("we will send a new one.", "please send us a photo of the damage."),
    "refund": ("your money will be back in {n} days.", "we have started the refund."),
    "account": ("we have sent you a link to reset the password.", "your account is open again."),
    "billing": ("we will correct the invoice.", "we have sent you a new invoice."),
    "cancel": ("your order is cancelled.", "we have stopped the order."),
}
OPENINGS: dict[str, tuple[str, ...]] = {
    "polite": ("hello,", "good morning,", "dear team,", "hi there,"),
    "angry": ("this is not okay!", "again a problem!", "i am very angry!", "listen,"),
    "short": ("", "", "hey,"),
}
CLOSINGS: dict[str, tuple[str, ...]] = {
    "polite": ("thank you.", "kind regards,", "many thanks,", "best wishes,"),
    "angry": ("fix it!", "do something!", "this is a shame!"),
    "short": ("", "", "thanks"),
}
HURRY = ("it is urgent.", "i need it today.", "please hurry.", "as soon as possible.")


@dataclass(frozen=True)
class Ticket:
    """A ticket and the facts it states; `order` is a number of four or five digits."""

    topic: str
    tone: str
    name: str
    product: str
    order: int
    urgent: bool
    text: str


def misspelled(rng: Random, text: str) -> str:
    """Return `text` with one typing error in one longer word; words in braces stay as they are."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    word = words[at]
    cut = rng.randrange(1, len(word) - 1)
    if rng.random() < 0.5:
        words[at] = word[:cut] + word[cut + 1 :]
    else:
        words[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    return " ".join(words)


def ticket(rng: Random, topics: tuple[str, ...] = tuple(TOPICS), typo_fraction: float = 0.25) -> Ticket:
    """Draw a ticket; about a quarter carry a typing error and a third are urgent."""
    topic, tone = rng.choice(topics), rng.choice(tuple(OPENINGS))
    name, product, order = rng.choice(lex.NAMES), rng.choice(lex.PRODUCTS), rng.randrange(1000, 99999)
    complaint = rng.choice(TOPICS[topic])
    if rng.random() < typo_fraction:
        complaint = misspelled(rng, complaint)
    complaint = complaint.format(product=product, day=rng.choice(lex.DAYS))
    if product not in complaint:
        complaint += f", i bought the {product}"
    urgent = rng.random() < 0.33
    where = rng.choice((f"order {order}", f"my order is {order}", f"order number {order}"))
    parts = [rng.choice(OPENINGS[tone]), complaint + ".", where + ".", rng.choice(HURRY) if urgent else ""]
    parts += [rng.choice(CLOSINGS[tone]), name]
    return Ticket(topic, tone, name, product, order, urgent, " ".join(part for part in parts if part))


def reply(rng: Random, given: Ticket) -> str:
    """Return a reply in the world's common style: the name, a sorry when fitting, and what happens next."""
    sorry = rng.choice(("sorry for the trouble. ", "we are sorry. ", "")) if given.tone != "short" else ""
    act = rng.choice(REPLIES[given.topic]).format(n=rng.randrange(2, 10))
    return f"{rng.choice(('hello', 'hi', 'dear'))} {given.name}, {sorry}{act}"
