"""The same question in slightly different words, by rule or by a given model; what the answer rests on stays."""

# SPDX-License-Identifier: Apache-2.0
#
# Only the last user message changes. Numbers, names, code, quotations, addresses and every telling word that the target
# holds too stay as they are: an answer that was right must still be right. A text that no rule fits comes back as it
# was; what the rules reword is also written in more haste, with abbreviations and typing errors.
from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from foretune.data.noisy import KEPT, noisy_sample
from foretune.data.rephrase import endpoint_rephrase
from foretune.data.samples import Message, Sample

__all__ = ["RULES", "reworded_by_rule", "reworded_sample", "rewording"]

RULES = "rules"  # in place of a model's URL#MODEL
# the input, its target, the number of the attempt -> the input in other words, or as it was
Reword = Callable[[str, str, int], str]
HASTE = 0.15  # of the longer words that are mistyped
MOST_TRIES = 8  # at a haste that leaves what must stay

# Phrases of one group say the same; each may stand for any other of its group.
GROUPS = (
    ("it is", "it's"),
    ("that is", "that's"),
    ("what is", "what's"),
    ("there is", "there's"),
    ("I am", "I'm"),
    ("we are", "we're"),
    ("you are", "you're"),
    ("I will", "I'll"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("did not", "didn't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("was not", "wasn't"),
    ("cannot", "can't", "can not"),
    ("could not", "couldn't"),
    ("will not", "won't"),
    ("hello", "hi", "hey"),
    ("please", "kindly"),
    ("can you", "could you", "would you"),
    ("how do I", "how can I"),
    ("I want to", "I would like to"),
    ("I need to", "I have to"),
    ("tell me", "let me know"),
    ("help me", "assist me"),
    ("because of", "due to"),
    (", but", ", yet"),
    ("a lot of", "lots of"),
    ("maybe", "perhaps"),
    ("for example", "for instance"),
    ("at once", "right away"),
    ("right now", "at the moment"),
    ("any more", "any longer"),
    ("every day", "each day"),
    ("the whole", "the entire"),
    ("wrong", "incorrect"),
    ("begin", "start"),
    ("buy", "purchase"),
    ("bought", "purchased"),
    ("fix", "repair"),
    ("big", "large"),
    ("until", "till"),
    ("film", "movie"),
)
ONE_WAY = (
    ("very", "really"),
    ("thank you", "thanks"),
    ("in order to", "to"),
    ("such as", "like"),
    ("I would", "I'd"),
    ("I have not", "I haven't"),
)
MOST_SWAPS = 4
QUESTION = re.compile(r"^(?:how|what|why|when|where|who|which|can|could|is|are|do|does|did|will|would|should)\b", re.I)
ADDRESSED = re.compile(r"\b(?:I|my|me|we|our|us|you|your|please)\b", re.I)  # someone speaks to someone
GREETED = re.compile(r"^(?:hello|hi|hey|dear|good (?:morning|day|evening))\b", re.I)
BEFORE_QUESTIONS = ("Quick question: ", "Please tell me: ", "I would like to know: ")
GREETINGS = ("Hello, ", "Hi, ", "Good day, ")
COMMON = frozenset(
    "a about after all also an and any are as at be been but by can could did do does for from had has have he her "
    "his how i if in into is it its just like many me more most much my no not of on one only or our out over she "
    "should so some than that the their them then there these they this to too up us was we were what when where "
    "which who why will with would you your".split()
)
WORD = re.compile(r"\w+(?:['-]\w+)*")
NUMBER = re.compile(r"\d+")
QUOTED = re.compile(r'"[^"\n]*"|“[^”\n]*”')
STOPS = ".,;:!?()"  # around a number or address, and none of its own
DATA = ("{", "[", "<", "```")  # begins what is no prose
NAME = re.compile(r"(?<=[\w,;:] )[A-Z]\w+")  # a capital in the middle of a sentence
MANY_CAPITALS = 1 / 6  # of the words: then they are no names, as in German


def rewording(by: str, seed: int) -> Reword:
    """How inputs are reworded: by `RULES`, or by the model `URL#MODEL` of an OpenAI-compatible endpoint.

    With a model texts leave this machine, and it may raise ServeError. Raises ConfigError for another `by`.
    """
    if by == RULES:
        return lambda text, target, number: reworded_by_rule(text, target, f"{seed}/{number}")
    rephrase = endpoint_rephrase(by)
    return lambda text, target, _: _kept_or_as_it_was(text, rephrase(text), target)


def reworded_sample(sample: Sample, reword: Reword, number: int = 0) -> Sample | None:
    """The sample with its last user message reworded; None where there is none or nothing changed."""
    place = max((at for at, message in enumerate(sample.prompt) if message.role == "user"), default=-1)
    if place < 0:
        return None
    message = sample.messages[place]
    text = reword(message.content, sample.target, number)
    if text.split() == message.content.split():
        return None
    messages = (*sample.messages[:place], Message("user", text, extra=message.extra), *sample.messages[place + 1 :])
    return replace(sample, id=f"{sample.id}~reworded{number or ''}", messages=messages)


def reworded_by_rule(text: str, target: str, seed: str = "") -> str:
    """Phrases and contractions swapped, a greeting or opening, written in haste; the same for the same text and seed.

    Phrases that the target holds too stay, as do code, addresses and figures. The rules are English.
    """
    rng = random.Random(hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest())
    said = text if text.lstrip().startswith(DATA) else _opened(_swapped(text, target, rng), rng)
    if said == text:
        return text
    plain = _without_stop(said)
    hasty = (_in_haste(plain, rng.randrange(2**32)) for _ in range(MOST_TRIES))
    return next((one for one in (*hasty, plain) if _is_kept(text, one, target)), text)


def _in_haste(text: str, seed: int) -> str:
    """With abbreviations and typing errors."""
    sample = Sample("", (Message("user", text), Message("assistant", "")))
    return noisy_sample(sample, seed=seed, rate=HASTE, kinds=("abbreviations", "typos")).input_text


def _swapped(text: str, target: str, rng: random.Random) -> str:
    """Up to `MOST_SWAPS` phrases in other words, outside of what must stay."""
    kept = [part.span() for pattern in (KEPT, QUOTED) for part in pattern.finditer(text)]
    found = [one for one in _PHRASES.finditer(text) if not any(a < one.end() and one.start() < b for a, b in kept)]
    found = [one for one in found if not re.search(rf"(?<!\w){re.escape(one.group())}(?!\w)", target, re.I)]
    chosen = rng.sample(found, min(MOST_SWAPS, len(found)))
    for one in sorted(chosen, key=lambda match: -match.start()):
        others = _OTHERS[_plain(one.group())]
        text = text[: one.start()] + _cased(rng.choice(others), one.group()) + text[one.end() :]
    return text


def _plain(phrase: str) -> str:
    return phrase.lower().replace("’", "'")


def _others() -> dict[str, list[str]]:
    """What each phrase, in small letters, may be said as."""
    told = {_plain(old): [new for new in group if new != old] for group in GROUPS for old in group}
    return told | {_plain(old): [new] for old, new in ONE_WAY}


def _pattern(phrase: str) -> str:
    """The phrase as whole words; a verb that can be contracted only before another word."""
    words = re.escape(phrase).replace("'", "['’]").replace("\\ ", r"\s")
    before = r"(?<![\w'’])" if phrase[0].isalnum() else ""
    after = r"(?=\s\w)" if phrase.endswith((" is", " am", " are")) else r"(?![\w'’])"
    return f"{before}{words}{after}"


_OTHERS = _others()
_PHRASES = re.compile("|".join(_pattern(phrase) for phrase in sorted(_OTHERS, key=len, reverse=True)), re.IGNORECASE)


def _cased(new: str, old: str) -> str:
    """`new` in small letters where `old` has no capital, with a capital where it begins with one."""
    if old == old.lower():
        return new.lower()
    return new[0].upper() + new[1:] if old[0].isupper() else new


def _opened(text: str, rng: random.Random) -> str:
    """An opening before a question, a greeting before what someone says to someone; nothing before any other text."""
    plain = text.strip()
    if QUESTION.match(plain):
        opening = rng.choice(BEFORE_QUESTIONS)
    elif ADDRESSED.search(plain) and not GREETED.match(plain):
        opening = rng.choice(GREETINGS)
    else:
        return text
    return _cased(opening, plain[0]) + _begun_small(plain)


def _begun_small(text: str) -> str:
    """Without the capital of a first word that is no name."""
    first = WORD.match(text)
    return text[0].lower() + text[1:] if first and first.group()[1:] and first.group().lower() in COMMON else text


def _without_stop(text: str) -> str:
    """Without one full stop at the end."""
    plain = text.rstrip()
    return plain[:-1] if plain.endswith(".") and not plain.endswith("..") else text


def _kept_or_as_it_was(text: str, said: str, target: str) -> str:
    return said if _is_kept(text, said, target) else text


def _is_kept(text: str, said: str, target: str) -> bool:
    """Whether `said` keeps numbers, code, names and the telling words that text and target share."""
    words = {word.lower() for word in WORD.findall(said)}
    return (
        Counter(NUMBER.findall(text)) == Counter(NUMBER.findall(said))
        and all(part.strip(STOPS) in said for part in (*KEPT.findall(text), *QUOTED.findall(text)))
        and bool(said.strip())
        and (_names(text) | _shared(text, target)) <= words
    )


def _names(text: str) -> set[str]:
    """Words with a capital in the middle of a sentence, in small letters; none where many words have one."""
    names = {word.lower() for word in NAME.findall(text)}
    return names if len(names) <= max(1.0, MANY_CAPITALS * len(WORD.findall(text))) else set()


def _shared(text: str, target: str) -> set[str]:
    """The words that text and target share, in small letters, without those that any text holds."""
    shared = {word.lower() for word in WORD.findall(text)} & {word.lower() for word in WORD.findall(target)}
    return {word for word in shared if word not in COMMON}
