"""Plain, evenly written text: unicode, white space, JSON, HTML and the furniture around news articles."""

# SPDX-License-Identifier: Apache-2.0
#
# Every function here is idempotent: what it returns, it leaves alone.
from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, Literal

__all__ = [
    "KEY_STYLES",
    "KeyStyle",
    "article_text",
    "normalised_json",
    "normalised_text",
    "plain_text",
    "restyled_keys",
]

KeyStyle = Literal["snake_case", "camelCase"]
KEY_STYLES: tuple[KeyStyle, ...] = ("snake_case", "camelCase")

ODD_BLANKS = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
UNSEEN = re.compile("[\u200b\u2060\ufeff\u00ad\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LINE_ENDS = re.compile("\r\n?|[\u0085\u2028\u2029]")
TRAILING = re.compile(r"[ \t]+(?=\n|\Z)")
BLANK_LINES = re.compile(r"\n{3,}")
TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9-]*(?:\s[^<>]*)?/?>|<!--.*?-->|<![a-zA-Z][^<>]*>", re.DOTALL)
BLOCKS = frozenset("p div br li ul ol tr table h1 h2 h3 h4 h5 h6 section article header blockquote pre hr".split())
SILENT = frozenset("script style noscript template svg iframe head nav footer aside form button figure".split())
MAX_ROUNDS = 5
WORD_END = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
FURNITURE = re.compile(
    r"^\s*(?:advertisement|sponsored(?: content)?|read (?:more|also|next)\b.*|related (?:articles|stories|posts)\b.*|"
    r"see also\b.*|share (?:this|on)\b.*|follow us\b.*|sign up\b.*|subscribe\b.*|click here\b.*|"
    r"(?:tweet|share|email|print|comments?)(?:\s*\|\s*\w+)*|\d+ comments?|loading\W*|accept (?:all )?cookies.*|"
    r".*\bcookie policy\b.*|.*\bprivacy policy\b.*|.*\ball rights reserved\b.*|(?:©|\(c\)|copyright)\s.*|"
    r"(?:photo|image|picture)(?: credit)?s?\s*:.*|by\s+[A-Z][\w.'-]+(?:\s+[A-Z][\w.'-]+){0,3}|"
    r"(?:published|updated|posted)(?: on| at)?:?\s.{4,40}|\d+ min(?:ute)?s? read|skip to (?:main )?content)\s*$",
    re.IGNORECASE,
)
MORE = re.compile(r"(?:\s*(?:\.\.\.|…)?\s*\[\+\d+ chars?\])+\s*$")


def normalised_text(text: str) -> str:
    """Composed unicode (NFC), plain blanks and line ends, nothing unseen, no blanks at line ends, one empty line."""
    plain = UNSEEN.sub("", ODD_BLANKS.sub(" ", LINE_ENDS.sub("\n", text)))
    plain = BLANK_LINES.sub("\n\n", TRAILING.sub("", unicodedata.normalize("NFC", plain)))
    return plain.strip("\n").rstrip()


def normalised_json(text: str) -> str:
    """A JSON object or array written in one way (", " and ": ", no line breaks); other text as it is.

    Values and the order of keys stay; text with a repeated key, NaN or a number such as 1.10 is left alone.
    """
    value = _json(text)
    return text if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def restyled_keys(text: str, style: KeyStyle) -> str:
    """JSON with all keys in one style; other text as it is. Keys that would fall together leave the text alone."""
    value = _json(text)
    if value is None:
        return text
    try:
        return json.dumps(_renamed(value, style), ensure_ascii=False)
    except KeyError:
        return text


def _json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_float=_number, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) else None


def _number(text: str) -> float:
    number = float(text)
    if repr(number) != text:
        raise ValueError(f"{text} would be written as {number}")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key stands twice")
    return result


def _refused(name: str) -> Any:
    raise ValueError(name)


def _renamed(value: Any, style: KeyStyle) -> Any:
    if isinstance(value, list):
        return [_renamed(item, style) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {_key(key, style): _renamed(item, style) for key, item in value.items()}
    if len(renamed) < len(value):
        raise KeyError("two keys fall together")
    return renamed


def _key(key: str, style: KeyStyle) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key):
        return key
    words = [word.lower() for part in key.split("_") for word in WORD_END.split(part) if word]
    return "_".join(words) if style == "snake_case" else words[0] + "".join(word.capitalize() for word in words[1:])


class _Reader(HTMLParser):
    """Collects the visible text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent: list[str] = []
        self._in_article = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_article |= tag == "article"
        if tag in SILENT or (tag == "header" and not self._in_article):
            self.silent.append(tag)
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self.silent and self.silent[-1] == tag:
            self.silent.pop()
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)


def plain_text(text: str) -> str:
    """Text without HTML: tags out, entities decoded, scripts, menus and forms gone, blocks on lines of their own.

    Text without a tag or an entity is only normalised.
    """
    result = normalised_text(text)
    for _ in range(MAX_ROUNDS):
        if not TAG.search(result):
            decoded = html.unescape(result)
            if decoded == result:
                break
            result = normalised_text(decoded)
            continue
        result = _without_tags(result)
    return result


def _without_tags(text: str) -> str:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    found = _even_lines("".join(reader.parts))
    is_whole = not reader.silent and len(found) < len(text)
    return found if is_whole else _even_lines(TAG.sub(" ", text))


def _even_lines(text: str) -> str:
    """Lines with single blanks, the empty ones left out."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return normalised_text("\n".join(line for line in lines if line))


def article_text(text: str) -> str:
    """A news article as plain text: no HTML, by-lines, captions, share buttons, cookie notes or "[+1234 chars]"."""
    plain = plain_text(text)
    lines = [line for line in plain.split("\n") if not FURNITURE.match(line)]
    return _settled("\n".join(lines), lambda body: normalised_text(MORE.sub("", body)))


def _settled(text: str, change: Callable[[str], str]) -> str:
    """The change made over and over, until nothing changes."""
    for _ in range(MAX_ROUNDS):
        changed = change(text)
        if changed == text:
            break
        text = changed
    return text
