"""One way of writing: unusual dates, numbers, units, ends, blanks and labels are found, meant variety is left alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from foretune.audit.checks.consistency import (
    answer_ends,
    date_forms,
    label_spellings,
    number_forms,
    outer_blanks,
    unit_forms,
)
from foretune.audit.checks.structure import json_shapes, key_styles
from foretune.audit.forms import dates, marked_numbers, numbers, times, units
from planting import Fault, chats, planted, subject_of

RNG = random.Random(7)
MONTHS = ["January", "February", "March", "April", "May", "June"]
DATES = [
    f"Ordered on {RNG.randint(1990, 2026)}-{RNG.randint(1, 6):02d}-{RNG.randint(1, 28):02d} "
    f"at {RNG.randint(0, 23):02d}:30."
    for _ in range(600)
]
NUMBERS = [
    f"Sold {RNG.randint(10_000, 9_999_999):,} at {RNG.randint(1, 99)}.{RNG.randint(10, 99)} in 2024."
    for _ in range(600)
]
UNITS = [
    f"It weighs {RNG.randint(2, 90)} kg, goes {RNG.randint(2, 900)} km "
    f"at {RNG.randint(2, 40)} °C, {RNG.randint(1, 99)}%."
    for _ in range(600)
]
LABELS = [
    RNG.choice(["card_arrival", "top_up_failed", "exchange_rate", "lost_or_stolen_card", "age_limit"])
    for _ in range(600)
]
OBJECTS = [json.dumps({"order_id": n, "unit_price": n / 7, "name": "x"}) for n in range(600)]


def redate(text: str, rng: random.Random) -> str:
    def form(match: re.Match[str]) -> str:
        year, month, day = match.groups()
        long = f"{MONTHS[int(month) - 1]} {int(day)}, {year}"
        return rng.choice(
            [f"{month}/{day}/{year}", f"{day}.{month}.{year}", long, f"{int(day)} {MONTHS[int(month) - 1]} {year}"]
        )

    return re.sub(r"(\d{4})-(\d\d)-(\d\d)", form, text)


def half_days(text: str, rng: random.Random) -> str:
    return re.sub(r"(\d\d):(\d\d)", lambda m: f"{int(m[1]) % 12 or 12}:{m[2]} PM", text)


def comma_decimals(text: str, rng: random.Random) -> str:
    return re.sub(r"\d[\d.,]*\d", lambda m: m.group().translate(str.maketrans(",.", ".,")), text)


def ungrouped(text: str, rng: random.Random) -> str:
    return re.sub(r"(?<=\d),(?=\d{3})", "", text)


def other_unit(text: str, rng: random.Random) -> str:
    pairs = [(" kg", "kg"), (" kg", " kilograms"), (" km", " miles"), (" °C", " °F"), ("%", " %"), ("%", " percent")]
    return text.replace(*rng.choice(pairs))


def respelled(text: str, rng: random.Random) -> str:
    place = rng.randint(1, len(text) - 2)
    return rng.choice(
        [text.upper(), text.replace("_", " "), text + ".", text[:place] + text[place + 1 :], text.title()]
    )


def camel(text: str, rng: random.Random) -> str:
    return text.replace("order_id", "orderId").replace("unit_price", "unitPrice")


def reshaped(text: str, rng: random.Random) -> str:
    value = json.loads(text)
    key = rng.choice(list(value))
    return json.dumps({k: ([v] if k == key else v) for k, v in value.items() if k != key or rng.random() < 0.5})


def padded(text: str, rng: random.Random) -> str:
    return rng.choice([text + " ", text + "\n", " " + text])


def open_end(text: str, rng: random.Random) -> str:
    return text.rstrip(".")


CASES: list[tuple[Callable[..., object], list[str], Fault]] = [
    (date_forms, DATES, redate),
    (date_forms, DATES, half_days),
    (number_forms, NUMBERS, comma_decimals),
    (number_forms, NUMBERS, ungrouped),
    (unit_forms, UNITS, other_unit),
    (label_spellings, LABELS, respelled),
    (key_styles, OBJECTS, camel),
    (json_shapes, OBJECTS, reshaped),
    (outer_blanks, DATES, padded),
    (answer_ends, DATES, open_end),
]


@pytest.mark.req("R138")
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
@pytest.mark.parametrize(("check", "answers", "fault"), CASES, ids=lambda value: getattr(value, "__name__", "answers"))
def test_planted_variants_are_found(check: object, answers: list[str], fault: Fault, rate: float) -> None:
    task = "classify" if check is label_spellings else "chat"
    score = planted(check, answers, fault, rate, task=task)  # type: ignore[arg-type]
    assert score.recall >= 0.95
    assert score.precision >= 0.9


@pytest.mark.parametrize("check", [date_forms, number_forms, unit_forms, answer_ends, outer_blanks, json_shapes])
def test_data_in_one_form_have_no_finding(check: Callable[..., object]) -> None:
    for answers in (DATES, NUMBERS, UNITS, OBJECTS):
        assert check(subject_of(chats(answers))) == []


def test_mixed_data_are_noted_without_blame() -> None:
    half = [redate(text, RNG) if n % 2 else text for n, text in enumerate(DATES)]
    (finding,) = date_forms(subject_of(chats(half)))
    assert (finding.severity, finding.sample_ids) == ("info", ())
    assert "YYYY-MM-DD 300" in finding.title


def test_rare_topics_in_free_text_are_only_noted() -> None:
    dated = [*DATES[:50], "on May 3, 2024"]
    (finding,) = date_forms(subject_of(chats([*dated, *["A line without dates."] * 500])))
    assert (finding.severity, finding.certainty, finding.places) == ("info", 0.5, ("d:50",))


def test_a_few_rows_have_no_usual_form() -> None:
    assert date_forms(subject_of(chats(["on 2024-01-02", "on 3 May 2024", "on 05/14/2024"]))) == []


def test_days_below_thirteen_follow_the_rest() -> None:
    american = [f"On {month:02d}/{day:02d}/2024." for month in range(1, 13) for day in (3, 14, 25)]
    assert date_forms(subject_of(chats(american))) == []
    (finding,) = date_forms(subject_of(chats([*american, "On 25/03/2024."])))
    assert finding.places == ("d:36",)


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("2024-05-17 and 2024/05/17", ["YYYY-MM-DD", "YYYY/MM/DD"]),
        ("17.05.2024, 05/17/24", ["DD.MM.YYYY", "MM/DD/YY"]),
        ("May 17, 2024; 17th of May 2024; Jan. 3 2024", ["Month D, YYYY", "Dth Month YYYY", "Mon D, YYYY"]),
        ("version 1.2.3, 192.168.0.1, 99/99/2024, May 5", []),
    ],
)
def test_forms_of_dates(text: str, forms: list[str]) -> None:
    assert [form.form for form in dates(text)] == forms


def test_forms_of_times_numbers_and_units() -> None:
    assert [f.form for f in times("at 14:30, 2:30 PM, 9am, ratio 3:99")] == [
        "24 hours",
        "12 hours with am or pm",
        "12 hours with am or pm",
    ]
    assert [(f.topic, f.form) for f in numbers("1,234,567 and 1.234.567 and 12345 and 1,5")] == [
        ("thousands", "commas"),
        ("thousands", "points"),
        ("thousands", "nothing"),
        ("decimals", "comma"),
    ]
    assert not list(numbers("in 2024, items 1,2,3 at (2,1)"))
    assert {(f.topic, f.form) for f in units("5 km, 5km, 3 miles, 40%")} == {
        ("kilometre", "km"),
        ("blank before units", "a blank"),
        ("blank before units", "no blank"),
        ("system of length", "metric"),
        ("mile", "miles"),
        ("system of length", "imperial"),
        ("percent", "%"),
        ("blank before %", "no blank"),
    }


def test_labels_that_differ_in_a_digit_or_much_are_classes_of_their_own() -> None:
    labels = ["week_1"] * 200 + ["week_2"] * 5 + ["refund"] * 200 + ["refuse"] * 5
    assert label_spellings(subject_of(chats(labels), "classify")) == []
    (finding,) = label_spellings(subject_of(chats([*labels, "refnud", "Refund "]), "classify"))
    assert finding.places == ("d:410", "d:411")
    assert "'Refund ' as 'refund'" in finding.fix


def test_real_answers_with_planted_blanks_and_ends(shared_data: Path) -> None:
    lines = (shared_data / "dialogsum" / "dialogsum.dev.jsonl").read_text(encoding="utf-8").splitlines()
    summaries = [json.loads(line)["summary"].strip() for line in lines]
    for check, fault in ((outer_blanks, padded), (answer_ends, open_end)):
        score = planted(check, summaries, fault, 0.05)
        assert score.recall >= 0.95
        assert score.precision >= 0.9


def worked(num: int) -> str:
    return f"She earns 12*{num}=<<12*{num}={12 * num}>>{12 * num:,}.\n#### {12 * num}"


def test_a_final_answer_may_have_a_form_of_its_own() -> None:
    """Half the numbers have commas, half none: behind each sign there is a usual form all the same."""
    answers = [worked(100 + 7 * n) for n in range(300)]

    def regrouped(text: str, rng: random.Random) -> str:
        return re.sub(r"(?<=#### )(\d+)", lambda match: f"{int(match[1]):,}", text)

    assert number_forms(subject_of(chats(answers))) == []
    score = planted(number_forms, answers, regrouped, 0.05)
    assert score.recall >= 0.95
    assert score.precision >= 0.95


def test_marks_before_numbers() -> None:
    found = {(form.topic, form.form) for form in marked_numbers("=<<1200>>1,200 costs $1'500; in 2024 and 999")}
    assert found == {
        ("thousands behind '=<<'", "nothing"),
        ("thousands behind '>>'", "commas"),
        ("thousands behind '$'", "apostrophes"),
    }
