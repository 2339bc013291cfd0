"""The forms in which one thing is written: dates, times, numbers, units, ends of sentences, labels."""

# SPDX-License-Identifier: Apache-2.0
#
# Each function takes a text and yields (topic, form) for what stands in it: two forms of one topic are two ways to
# write the same thing. It does not know which of them is right: the data decide, by majority.
from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

__all__ = ["Form", "dates", "ending", "marked_numbers", "numbers", "times", "units", "unmarked"]


class Form(NamedTuple):
    """One way to write a topic, and the text that shows it."""

    topic: str
    form: str
    text: str


MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DATE = re.compile(
    r"(?<![\w./-])(?:(?P<iso>\d{4}([-/.])\d{1,2}\2\d{1,2})(?!\d)"
    r"|(?P<numeric>(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2}))(?![\d/-]|\.\d))"
    rf"|\b(?P<named>(?P<month>{MONTH}) \d{{1,2}}(?P<th>st|nd|rd|th)?,? \d{{4}})\b"
    rf"|(?<![\w.])(?P<dayfirst>\d{{1,2}}(?P<th2>st|nd|rd|th)?(?: of)? (?P<month2>{MONTH}),? \d{{4}})\b"
)
NAMES = {"-": "hyphens", "/": "slashes", ".": "points"}


def dates(text: str) -> Iterator[Form]:
    """The dates of a text by their form: `2024-05-17`, `05/17/2024`, `17.05.2024`, `May 17, 2024`, `17 May 2024`."""
    for match in DATE.finditer(text):
        form = _date_form(match)
        if form:
            yield Form("date", form, match.group())


def _date_form(match: re.Match[str]) -> str:
    if match["iso"]:
        return f"YYYY{match[2]}MM{match[2]}DD"
    if match["numeric"]:
        one, two, mark = int(match["one"]), int(match["two"]), match["mark"]
        if not (1 <= one <= 31 and 1 <= two <= 31) or (one > 12 and two > 12):
            return ""
        year = "Y" * len(match["year"])
        order = f"MM{mark}DD" if two > 12 else f"DD{mark}MM" if one > 12 else f"??{mark}??"
        return f"{order}{mark}{year}"
    short = len((match["month"] or match["month2"]).rstrip(".")) <= 4 and (match["month"] or match["month2"]) not in (
        "May", "June", "July",
    )  # fmt: skip
    month = "Mon" if short else "Month"
    ordinal = "th" if match["th"] or match["th2"] else ""
    return f"{month} D{ordinal}, YYYY" if match["named"] else f"D{ordinal} {month} YYYY"


TIME = re.compile(
    r"(?<![\d:.])(\d{1,2}):(\d{2})(?::\d{2})?(?P<half> ?[AaPp]\.?[Mm]\b\.?)?(?![\d:])"
    r"|(?<![\w:.])\d{1,2}(?P<bare> ?[AaPp]\.?[Mm]\b\.?)"
)


def times(text: str) -> Iterator[Form]:
    """The times of day of a text: `14:30` or `2:30 PM`."""
    for match in TIME.finditer(text):
        half = match["half"] or match["bare"]
        if half:
            yield Form("time of day", "12 hours with am or pm", match.group())
        elif int(match[1]) < 24 and int(match[2]) < 60:
            yield Form("time of day", "24 hours", match.group())


LARGE = re.compile(
    r"(?<![\w.,'’/:#+-])-?\d{1,3}(?:(?P<mark>[,.'’ \u00a0\u202f])\d{3})(?:(?P=mark)\d{3})*"
    r"(?P<rest>[.,]\d{1,2}(?!\d))?(?![\w/:-]|[.,'’]\d)"
)
PLAIN = re.compile(r"(?<![\w.,'’/:#+-])(?:\d{5,9}(?:\.\d{1,2})?)(?![\w/:-]|[.,'’]\d)")
DECIMAL = re.compile(r"(?<![\w.,'’/:#(\[{-])-?\d{1,9}(?P<mark>[.,])(?:\d{1,2}|\d{4,6})(?![\w/:-]|[.,'’]\d)")
GROUPINGS = {",": "commas", ".": "points", "'": "apostrophes", "’": "apostrophes"}


def numbers(text: str) -> Iterator[Form]:
    """The numbers of a text: what parts thousands (12,345), and what marks decimals (1.5)."""
    spans = []
    for match in LARGE.finditer(text):
        mark = match["mark"]
        if mark == "." and not match["rest"] and match.group().count(".") < 2:
            continue  # 1.234 may be a decimal number
        spans.append(match.span())
        yield Form("thousands", GROUPINGS.get(mark, "blanks"), match.group())
        if match["rest"]:
            yield Form("decimals", "point" if match["rest"][0] == "." else "comma", match.group())
    for match in PLAIN.finditer(text):
        if all(match.end() <= a or b <= match.start() for a, b in spans):
            yield Form("thousands", "nothing", match.group())
    for match in DECIMAL.finditer(text):
        if all(match.end() <= a or b <= match.start() for a, b in spans):
            yield Form("decimals", "point" if match["mark"] == "." else "comma", match.group())


# A number of 1,000 or more right behind a sign that no year stands behind: "#### 1,200", "$1200", "=1200>>".
MARKED = re.compile(
    r"(?<![^\w\s])(?P<mark>[^\w\s]{0,3}[#$£€¥=<>][^\w\s]{0,3} ?)(?:\d{1,3}(?:(?P<by>[,'’ \u00a0\u202f])\d{3})+|\d{4,9})"
    r"(?![\w,'’]|\.\d{3})"
)


def marked_numbers(text: str) -> Iterator[Form]:
    """What parts thousands, told apart by the sign before the number: a final answer may have a form of its own."""
    for match in MARKED.finditer(text):
        form = GROUPINGS.get(match["by"], "blanks") if match["by"] else "nothing"
        yield Form(f"thousands behind {match['mark'].strip()!r}", form, match.group())


def unmarked(text: str, topics: Collection[str]) -> str:
    """The text without the numbers that `marked_numbers` puts under one of these topics."""
    return MARKED.sub(
        lambda match: "" if f"thousands behind {match['mark'].strip()!r}" in topics else match.group(), text
    )


# Unit -> its spellings; the first is the symbol. Units of one quantity belong to the metric or the imperial system.
UNITS: dict[str, tuple[str, str, str]] = {
    "kilometre": ("length", "metric", "km kms kilometer kilometers kilometre kilometres"),
    "metre": ("length", "metric", "m meter meters metre metres"),
    "centimetre": ("length", "metric", "cm centimeter centimeters centimetre centimetres"),
    "millimetre": ("length", "metric", "mm millimeter millimeters millimetre millimetres"),
    "mile": ("length", "imperial", "mi mile miles"),
    "foot": ("length", "imperial", "ft foot feet"),
    "inch": ("length", "imperial", "in inch inches"),
    "kilogram": ("weight", "metric", "kg kgs kilogram kilograms kilo kilos kilogramme kilogrammes"),
    "gram": ("weight", "metric", "g gram grams gramme grammes"),
    "milligram": ("weight", "metric", "mg milligram milligrams"),
    "pound": ("weight", "imperial", "lb lbs pound pounds"),
    "ounce": ("weight", "imperial", "oz ounce ounces"),
    "litre": ("volume", "metric", "l liter liters litre litres"),
    "millilitre": ("volume", "metric", "ml milliliter milliliters millilitre millilitres"),
    "gallon": ("volume", "imperial", "gal gallon gallons"),
    "hour": ("", "", "h hr hrs hour hours"),
    "minute": ("", "", "min mins minute minutes"),
    "second": ("", "", "s sec secs second seconds"),
    "percent": ("", "", "% percent per\u00a0cent pct"),
    "celsius": ("temperature", "metric", "°C celsius °celsius"),
    "fahrenheit": ("temperature", "imperial", "°F fahrenheit °fahrenheit"),
    "gigabyte": ("", "", "GB gigabyte gigabytes"),
    "megabyte": ("", "", "MB megabyte megabytes"),
}
UNIT_OF = {word.lower(): unit for unit, (_, _, words) in UNITS.items() for word in words.split(" ")}
SYMBOLS = {words.split(" ")[0] for _, _, words in UNITS.values()}
SHORT_FORMS = set("km cm mm kg mg ml mi ft lb lbs oz gal kms kgs gb mb hr hrs min mins sec secs pct".split())
UNIT = re.compile(
    r"(?<![\w.,/-])(?:\d{1,9}(?:[.,]\d{1,9}){0,3})(?P<gap>[ \u00a0-]?)(?P<unit>"
    + "|".join(sorted((re.escape(word) for word in UNIT_OF), key=len, reverse=True))
    + r"|degrees? (?:celsius|fahrenheit))(?![\w/%]|[.-]\w)",
    re.IGNORECASE,
)


def units(text: str) -> Iterator[Form]:
    """The measures of a text: spelling of the unit, blank before a symbol, metric or imperial system."""
    for match in UNIT.finditer(text):
        word = match["unit"].lower().removeprefix("degrees ").removeprefix("degree ")
        unit = UNIT_OF[word.replace("°celsius", "celsius").replace("°fahrenheit", "fahrenheit")]
        gap = match["gap"]
        if gap == "-" or (len(word) == 1 and word not in "%gmlhs"):
            continue
        is_symbol = match["unit"] in SYMBOLS or word in SHORT_FORMS or word in ("°c", "°f")
        yield Form(unit, _spelling(match["unit"], unit, is_symbol), match.group())
        if is_symbol:
            topic = "blank before %" if word == "%" else "blank before units"
            yield Form(topic, "a blank" if gap else "no blank", match.group())
        quantity, system, _ = UNITS[unit]
        if system:
            yield Form(f"system of {quantity}", system, match.group())


def _spelling(text: str, unit: str, is_symbol: bool) -> str:
    """`km`, or the word; singular and plural are one form, British and American spelling two."""
    if is_symbol:
        return text
    word = text.lower().split(" ")[-1].strip("°")
    return (
        {"foot": "feet", "inch": "inches"}.get(word, word if word.endswith("s") else word + "s")
        if unit != "percent"
        else word
    )


NO_SENTENCE = re.compile(r"#{1,6} |[-*•] |[{\[<`|]")
END = re.compile(r"[.!?…。！？:;][\"'”’)\]*_]*$")


def ending(text: str) -> str:
    """How a text of one line ends: `punctuation` or `no punctuation`; "" where it is no plain line of words."""
    line = text.strip()
    if not line or "\n" in line or NO_SENTENCE.match(line) or not line[-1:].isprintable():
        return ""
    if END.search(line):
        return "punctuation"
    return "no punctuation" if line[-1].isalnum() or line[-1] in "\"'”’)%" else ""
