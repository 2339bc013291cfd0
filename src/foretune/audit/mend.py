"""Mends text that was decoded with the wrong encoding, and takes out characters that nobody sees."""

# SPDX-License-Identifier: Apache-2.0
#
# UTF-8 that was read as a one-byte encoding leaves sequences of a lead and continuation characters ("Ã©", "â€™", "√©",
# "Ð¿Ñ€"). A run of them is damage if it encodes back to valid UTF-8 and is long enough that nobody means it.
from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

__all__ = ["CONTROL", "INVISIBLE", "has_mojibake", "mended", "visible"]

CONTROL = re.compile("\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Joiners belong beside letters of Arabic and Indic scripts and in emoji, breaks without width beside Thai, Lao,
# Burmese and Khmer; elsewhere they hide. Marks of direction belong in right-to-left text. Overrides, tags and soft
# hyphens never belong in training text.
JOINED = "\u0600-\u1fff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
INVISIBLE = re.compile(
    "[\u2060-\u2064\ufeff\u00ad\u180e\u202d\u202e\U000e0001\U000e0020-\U000e007f]"
    f"|(?<![{UNSPACED}])\u200b(?![{UNSPACED}])|(?<![{JOINED}])[\u200c\u200d](?![{JOINED}])"
)
DIRECTION = re.compile("[\u200e\u200f\u202a-\u202c\u2066-\u2069]")
FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]+")  # flags of England, Scotland and Wales are spelled with tags
MAX_ROUNDS = 3  # text damaged several times over


class _Codec(NamedTuple):
    to_byte: dict[str, int]
    run: re.Pattern[str]
    sure: re.Pattern[str]  # what makes a run damage


def _codec(name: str, sure_leads: str, *, min_sequences: int, trusts_long: bool) -> _Codec:
    """The sequences that UTF-8 leaves behind when it is read as the one-byte encoding `name`."""
    chars = [bytes([byte]).decode(name, "ignore") or chr(byte) for byte in range(256)]
    tails = f"[{re.escape(''.join(chars[0x80:0xC0]))}]"
    two = f"[{re.escape(''.join(chars[0xC2:0xE0]))}]{tails}"
    three = f"[{re.escape(''.join(chars[0xE0:0xF0]))}]{tails}{{2}}"
    four = f"[{re.escape(''.join(chars[0xF0:0xF5]))}]{tails}{{3}}"
    one = f"(?:{four}|{three}|{two})"
    sure = [f"{one}{{{min_sequences},}}"]
    if trusts_long:
        sure += [three, four]
    if name == "latin-1":
        sure.append("[\u0080-\u009f]")  # control characters that no text holds
    if sure_leads:
        sure.append(f"[{sure_leads}]{tails}")
    return _Codec({char: byte for byte, char in enumerate(chars)}, re.compile(f"{one}+"), re.compile("|".join(sure)))


CODECS = (
    _codec("cp1252", "\u00c2\u00c3", min_sequences=2, trusts_long=True),
    _codec("latin-1", "", min_sequences=2, trusts_long=True),
    _codec("mac_roman", "\u221a\u00ac", min_sequences=2, trusts_long=True),
    _codec("cp1251", "", min_sequences=3, trusts_long=False),
)


def _mended_run(match: re.Match[str], codec: _Codec) -> str:
    run = match.group()
    before = match.string[match.start() - 1 : match.start()]
    if not codec.sure.search(run) or (len(run) == 2 and before.isupper()):
        return run  # "CAMPEÃ”": a word in capitals before a closing quote
    try:
        return bytes(codec.to_byte[char] for char in run).decode("utf-8")
    except UnicodeDecodeError:
        return run


def mended(text: str) -> str:
    """The text with runs of wrongly decoded UTF-8 decoded right; anything else stays as it is."""
    if text.isascii():
        return text
    for _ in range(MAX_ROUNDS):
        before = text
        for codec in CODECS:
            text = codec.run.sub(partial(_mended_run, codec=codec), text)
        if text == before:
            break
    return text


def has_mojibake(text: str) -> bool:
    """Whether `mended` would change the text."""
    return not text.isascii() and any(codec.run.search(text) for codec in CODECS) and mended(text) != text


def visible(text: str) -> str:
    """The text without characters that nobody sees; joiners and marks stay where a script needs them."""
    if text.isascii():
        return text
    flags = {match.span() for match in FLAG.finditer(text)}
    kept = INVISIBLE.sub(lambda match: match.group() if any(a < match.start() < b for a, b in flags) else "", text)
    return kept if RTL.search(kept) else DIRECTION.sub("", kept)
