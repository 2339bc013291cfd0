"""Splits by time: nothing of the future is in training, and dates are read or refused, never guessed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime

import pytest

from foretune.data.samples import Message, Sample
from foretune.data.time_split import parsed_date, split_by_time
from foretune.errors import ConfigError, DataError


def row(number: int, date: object, text: str = "") -> Sample:
    messages = (Message("user", text or f"question {number}"), Message("assistant", f"answer {number}"))
    return Sample(str(number), messages, place=f"a.jsonl:{number}", meta={"date": date})


def year() -> list[Sample]:
    """Ten rows for each month of 2025."""
    return [row(number, f"2025-{number % 12 + 1:02d}-{number // 12 + 1:02d}") for number in range(120)]


def months(samples: list[Sample]) -> set[int]:
    return {int(sample.meta["date"][5:7]) for sample in samples}


@pytest.mark.req("R120")
def test_cut_dates_are_honoured() -> None:
    splits = split_by_time(year(), train_until="2025-04-01", test_from="2025-07-01")
    assert months(splits.train) == {1, 2, 3}
    assert months(splits.validation) == {4, 5, 6}
    assert months(splits.test) == {7, 8, 9, 10, 11, 12}
    assert splits.warnings[0].startswith("split by `date`: train before 2025-04-01, validation before 2025-07-01")


@pytest.mark.req("R120")
def test_without_cuts_the_last_tenth_is_test() -> None:
    splits = split_by_time(year())
    assert [len(part) for part in splits.as_dict().values()] == [96, 12, 12]
    dates = [[sample.meta["date"] for sample in part] for part in splits.as_dict().values()]
    assert max(dates[0]) < min(dates[1]) <= max(dates[1]) < min(dates[2])


def test_one_cut_is_enough() -> None:
    splits = split_by_time(year(), test_from="2025-12-01")
    assert months(splits.test) == {12}
    assert len(splits.validation) == 12
    splits = split_by_time(year(), train_until="2025-11-01")
    assert months(splits.train) == set(range(1, 11))
    assert len(splits.validation) == len(splits.test) == 10


def test_rows_of_one_moment_stay_together() -> None:
    samples = [row(number, f"2025-01-{number // 30 + 1:02d}") for number in range(120)]
    splits = split_by_time(samples, validation_fraction=0.2, test_fraction=0.2)
    parts = [{sample.meta["date"] for sample in part} for part in splits.as_dict().values()]
    assert not parts[0] & parts[1] and not parts[1] & parts[2]


@pytest.mark.req("R118")
def test_questions_that_come_again_leave_the_training_rows() -> None:
    samples = [*year(), row(500, "2025-01-01", "asked again"), row(501, "2025-12-01", "Asked  AGAIN")]
    splits = split_by_time(samples, train_until="2025-04-01", test_from="2025-07-01")
    assert "500" not in {sample.id for sample in splits.train}
    assert "501" in {sample.id for sample in splits.test}
    assert any("1 training rows share" in warning for warning in splits.warnings)


@pytest.mark.parametrize(
    "value",
    [
        "2025-03-31",
        "2025-03-31T00:00:00Z",
        "2025-03-31 02:00:00+02:00",
        "31.03.2025",
        "20250331",
        "20250331T000000Z",
        "31 Mar 2025",
        "March 31, 2025",
        "Mon, 31 Mar 2025 00:00:00 +0000",
        1743379200,
        1743379200000,
        1743379200.0,
    ],
)
def test_dates_in_their_usual_spellings(value: object) -> None:
    assert parsed_date(value) == datetime(2025, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize("value", ["03/04/2025", "yesterday", "", None, True, [], 1e300, float("nan")])
def test_what_is_no_date_is_not_guessed(value: object) -> None:
    assert parsed_date(value) is None


def test_rows_without_a_date_are_named() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: no date in `date`, got 'soon', expected 2025-03-31"):
        split_by_time([*year(), row(7, "soon")], date_field="date")
    with pytest.raises(ConfigError, match="no field holds a date in every row"):
        split_by_time([*year(), row(7, "soon")])


def test_cuts_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="is after test_from"):
        split_by_time(year(), train_until="2025-07-01", test_from="2025-04-01")
    with pytest.raises(ConfigError, match="train_until is no date"):
        split_by_time(year(), train_until="spring")
    with pytest.raises(DataError, match="the test split is empty: rows are from 2025-01-01"):
        split_by_time(year(), train_until="2025-03-01", test_from="2027-01-01")
    with pytest.raises(DataError, match="expected at least 3"):
        split_by_time(year()[:2], date_field="date")
