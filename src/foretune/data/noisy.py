"""A noisy twin of a test split: the same questions with typing errors, abbreviations and a casual tone, seeded."""

# SPDX-License-Identifier: Apache-2.0
#
# Only the last user message changes, never the answer, so the twin is scored against the same targets and the
# difference is what noise costs. Figures, code, addresses and words with a capital inside are left alone: to change
# them would change the question. `paired` finds the clean sample of each noisy one.
from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError
from foretune.records.base import write_atomically

__all__ = ["NOISES", "NOISY_FILE", "noisy_sample", "noisy_samples", "paired", "read_noisy", "write_noisy"]

NOISY_FILE = "noisy_test.jsonl"  # in a run folder

NEIGHBOURS = {
    **{"q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl"},
    **{"p": "ol", "a": "qsz", "s": "adw", "d": "sfe", "f": "dgr", "g": "fht", "h": "gjy", "j": "hku", "k": "jli"},
    **{"l": "kop", "z": "xas", "x": "zcs", "c": "xvd", "v": "cbf", "b": "vng", "n": "bmh", "m": "njk"},
}
ABBREVIATIONS = {
    **{"you": "u", "are": "r", "your": "ur", "please": "pls", "thanks": "thx", "because": "bc", "about": "abt"},
    **{"people": "ppl", "before": "b4", "tomorrow": "tmrw", "message": "msg", "with": "w/", "without": "w/o"},
    **{"account": "acct", "number": "no.", "information": "info", "minutes": "min", "and": "&", "what": "wat"},
    **{"really": "rly", "though": "tho", "through": "thru", "great": "gr8", "okay": "ok", "application": "app"},
    **{"as soon as possible": "asap", "by the way": "btw", "I don't know": "idk", "for example": "e.g."},
}
CASUAL = {
    **{"going to": "gonna", "want to": "wanna", "got to": "gotta", "kind of": "kinda", "do not": "dont"},
    **{"cannot": "cant", "can not": "cant", "I am": "im", "I would": "id", "let me": "lemme", "give me": "gimme"},
    **{"could you": "can u", "would you": "can u", "hello": "hey", "yes": "yeah", "is not": "isnt"},
}
OPENINGS = ("hey, ", "hi, ", "so ", "ok so ", "um, ")
ENDINGS = ("", " thx", " pls", "??", "...")
WORD = re.compile(r"[A-Za-z']+")
KEPT = re.compile(r"```.*?```|`[^`]*`|https?://\S+|\S+@\S+|\S*[\d{}<>\[\]\\/_=]\S*|\b\w*[a-z][A-Z]\w*\b", re.DOTALL)
MIN_TYPO_CHARS = 4  # shorter words are seldom mistyped and soon become other words


def _changed(text: str, change: Callable[[str], str]) -> str:
    """The text with `change` applied between the parts that must stay."""
    pieces, at = [], 0
    for kept in KEPT.finditer(text):
        pieces += [change(text[at : kept.start()]), kept.group()]
        at = kept.end()
    return "".join([*pieces, change(text[at:])])


def _typos(text: str, rng: random.Random, rate: float) -> str:
    def mistype(match: re.Match[str]) -> str:
        word = match.group()
        return _mistyped(word, rng) if len(word) >= MIN_TYPO_CHARS and rng.random() < rate else word

    return _changed(text, lambda piece: WORD.sub(mistype, piece))


def _mistyped(word: str, rng: random.Random) -> str:
    """One letter swapped with the next, left out, doubled, or hit beside; never the first letter."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + rng.choice(NEIGHBOURS.get(word[at].lower(), word[at])) + word[at + 1 :]


def _abbreviations(text: str, rng: random.Random, rate: float) -> str:
    return _changed(text, lambda piece: _replaced(piece, ABBREVIATIONS, rng, min(1.0, 4 * rate)))


def _replaced(text: str, table: dict[str, str], rng: random.Random, rate: float) -> str:
    lower = {phrase.lower(): short for phrase, short in table.items()}
    phrases = "|".join(re.escape(phrase) for phrase in sorted(lower, key=len, reverse=True))
    pattern = re.compile(rf"\b(?:{phrases})\b", re.IGNORECASE)
    return pattern.sub(lambda m: lower[m.group().lower()] if rng.random() < rate else m.group(), text)


def _casual(text: str, rng: random.Random, rate: float) -> str:
    """Lower case, contractions, no full stop, a word before and after."""
    plain = _changed(text, lambda piece: _replaced(piece, CASUAL, rng, min(1.0, 6 * rate)).lower())
    ending = rng.choice(ENDINGS)
    bare = plain.rstrip()
    if bare.endswith((".", "!", "?")) and not bare.endswith(("..", "```")):
        bare = bare[:-1]
    return f"{rng.choice(OPENINGS)}{bare}{ending}" if rng.random() < min(1.0, 6 * rate) else bare


NOISES: dict[str, Callable[[str, random.Random, float], str]] = {
    "casual": _casual,
    "abbreviations": _abbreviations,
    "typos": _typos,
}


def noisy_sample(sample: Sample, *, seed: int = 0, rate: float = 0.1, kinds: Sequence[str] = tuple(NOISES)) -> Sample:
    """The sample with noise in its last user message; the same for the same seed, whatever stands around it.

    `rate` is the share of longer words that are mistyped; the other kinds follow from it. `meta["augmented"]` names
    what was done and the sample it was done to. Raises ConfigError for an unknown kind or a rate outside 0 to 1.
    """
    unknown = sorted(set(kinds) - set(NOISES))
    if unknown or not 0 <= rate <= 1:
        what = f"unknown noise {unknown[0]!r}, expected {', '.join(NOISES)}" if unknown else f"noise rate {rate}"
        raise ConfigError(what, fix="choose kinds of noise and a rate from 0 to 1")
    index = max((i for i, message in enumerate(sample.prompt) if message.role == "user"), default=-1)
    if index < 0:
        return sample
    before = sample.messages[index].content
    digest = hashlib.sha256(f"{seed}:{before}".encode("utf-8", "surrogatepass")).digest()
    rng = random.Random(digest)
    text = before
    for name, noise in NOISES.items():
        text = noise(text, rng, rate) if name in kinds and text.strip() else text
    message = Message("user", text, extra=sample.messages[index].extra)
    messages = (*sample.messages[:index], message, *sample.messages[index + 1 :])
    done = {"how": [f"noise:{name}" for name in kinds], "from": sample.id, "seed": seed, "rate": rate}
    return replace(sample, id=f"{sample.id}~noisy", messages=messages, meta={**sample.meta, "augmented": done})


def noisy_samples(
    samples: Iterable[Sample], *, seed: int = 0, rate: float = 0.1, kinds: Sequence[str] = tuple(NOISES)
) -> list[Sample]:
    """The noisy twin of every sample, in order: a test set to score beside the clean one."""
    return [noisy_sample(sample, seed=seed, rate=rate, kinds=kinds) for sample in samples]


def paired(clean: Iterable[Sample], noisy: Iterable[Sample]) -> list[tuple[Sample, Sample]]:
    """Each noisy sample with the clean one it was made from; noisy samples of other data are left out."""
    by_id = {sample.id: sample for sample in clean}
    pairs = ((by_id.get(twin.meta.get("augmented", {}).get("from", "")), twin) for twin in noisy)
    return [(sample, twin) for sample, twin in pairs if sample is not None]


def write_noisy(run_dir: Path, test: Sequence[Sample], *, rate: float, seed: int) -> Path:
    """Write the noisy twin of a test split into a run folder, for its evaluation. Raises DoesNotFit."""
    path = run_dir / NOISY_FILE
    rows = (json.dumps(twin.to_json(), ensure_ascii=False) + "\n" for twin in noisy_samples(test, seed=seed, rate=rate))
    write_atomically(path, "".join(rows).encode("utf-8", "replace"))
    return path


def read_noisy(run_dir: Path) -> list[Sample]:
    """The noisy twin of a run's test split; [] where none was asked for. Raises DataError for a damaged file."""
    path = run_dir / NOISY_FILE
    if not path.is_file():
        return []
    try:
        return [Sample.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not what foretune wrote ({error})", fix="run the job again") from None
