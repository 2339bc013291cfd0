"""Splits by time: train on what came first, validate on what came next, test on what came last."""

# SPDX-License-Identifier: Apache-2.0
#
# A model will be asked about the future; a random split only tells how well it knows the past.
from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from foretune.data.faults import FaultList, fault_error, short
from foretune.data.samples import Sample
from foretune.data.split import Splits, without_copies
from foretune.errors import ConfigError, DataError

__all__ = ["CutDates", "cut_dates", "date_field_of", "parsed_date", "split_by_time"]

DATE_FIELDS = ("date", "time", "timestamp", "created_at", "created", "published_at", "publishedAt", "datetime")
# Day and month in figures are not guessed: 03/04/2025 is March to some and April to others.
FORMATS = ("%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%Y%m%dT%H%M%SZ", "%a, %d %b %Y %H:%M:%S %z", "%d %b %Y", "%B %d, %Y")
MILLISECONDS = 10_000_000_000  # as seconds this would be the year 2286
SHOWN_FORMS = "2025-03-31, 2025-03-31T12:00:00Z, 31.03.2025, 20250331, or seconds since 1970"


class CutDates(NamedTuple):
    """Training rows are before `train_until`, test rows at `test_from` or later, validation rows between (UTC)."""

    train_until: datetime
    test_from: datetime


def parsed_date(value: object) -> datetime | None:
    """A date in UTC: ISO 8601, seconds or milliseconds since 1970, or another usual spelling; None if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    found = _iso(text)
    for form in FORMATS:
        found = found or _read(text, form)
    if found is None:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _read(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _from_number(value: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(value / 1000 if abs(value) > MILLISECONDS else value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def date_field_of(samples: Sequence[Sample]) -> str:
    """The field of `meta` that holds a date in every sample. Raises ConfigError where there is none."""
    fields = (name for name in DATE_FIELDS if samples and all(parsed_date(s.meta.get(name)) for s in samples))
    found = next(fields, "")
    if not found:
        seen = sorted({name for sample in samples[:100] for name in sample.meta})
        what = f"no field holds a date in every row, got {short(seen)}, expected one of {', '.join(DATE_FIELDS)}"
        raise ConfigError(what, fix='name the field with the date of each row: data.time_field = "date"')
    return found


def cut_dates(dates: Sequence[datetime], *, validation_fraction: float, test_fraction: float) -> CutDates:
    """Where to cut so that the splits have these shares; rows of the same moment stay together."""
    ordered = sorted(dates)
    num = len(ordered)
    test_at = min(max(num - max(1, round(num * test_fraction)), 0), num - 1)
    train_at = max(test_at - max(1, round(num * validation_fraction)), 0)
    return CutDates(ordered[train_at], ordered[test_at])


def split_by_time(
    samples: Sequence[Sample],
    *,
    date_field: str = "",
    train_until: str = "",
    test_from: str = "",
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Splits:
    """Train on rows before `train_until`, test on those at `test_from` or later, validate on those between.

    Dates are read from the field `date_field` of `meta`; a cut that is not given follows from the fractions. Training
    rows whose input or group comes again later are left out, and said so. Raises ConfigError for cuts that are no
    dates or out of order, DataError naming rows without a date, and where a split stays empty.
    """
    field = date_field or date_field_of(samples)
    dates = _dates(samples, field)
    cuts = _cuts(dates, train_until, test_from, validation_fraction, test_fraction)
    order = sorted(range(len(samples)), key=lambda i: (dates[i], samples[i].id))
    train = [samples[i] for i in order if dates[i] < cuts.train_until]
    validation = [samples[i] for i in order if cuts.train_until <= dates[i] < cuts.test_from]
    test = [samples[i] for i in order if dates[i] >= cuts.test_from]
    warnings = [_told(cuts, field)]
    validation = without_copies(validation, test, warnings)
    train = without_copies(train, [*validation, *test], warnings)
    _check_filled({"train": train, "validation": validation, "test": test}, dates, cuts)
    return Splits(train, validation, test, warnings=tuple(warnings))


def _dates(samples: Sequence[Sample], field: str) -> list[datetime]:
    """The date of every sample; DataError names the rows that have none."""
    found = [parsed_date(sample.meta.get(field)) for sample in samples]
    dates = [date for date in found if date is not None]
    if len(dates) == len(samples):
        return dates
    faults = FaultList("rows")
    for sample, date in zip(samples, found, strict=True):
        if date is None:
            file, _, line = sample.place.rpartition(":")
            faults.file = file or sample.id
            value = short(sample.meta.get(field))
            faults.add(int(line) if line.isdigit() else 0, f"no date in `{field}`", value=value, expected=SHOWN_FORMS)
    raise fault_error(faults.faults, f"the dates in `{field}`", count=faults.count)


def _cuts(
    dates: Sequence[datetime], train_until: str, test_from: str, validation_fraction: float, test_fraction: float
) -> CutDates:
    if len(dates) < 3:
        raise DataError(f"{len(dates)} rows cannot be split by time: expected at least 3", fix="add rows")
    given = [_cut(name, text) for name, text in (("train_until", train_until), ("test_from", test_from))]
    derived = cut_dates(dates, validation_fraction=validation_fraction, test_fraction=test_fraction)
    end, start = given[0] or derived.train_until, given[1] or derived.test_from
    if given[1] and not given[0]:
        before = [date for date in dates if date < start]
        share = validation_fraction * len(dates) / max(len(before), 1)
        end = cut_dates(before, validation_fraction=0.0, test_fraction=min(share, 1.0)).test_from if before else start
    elif given[0] and not given[1]:
        after = [date for date in dates if date >= end]
        whole = max(validation_fraction + test_fraction, 1e-9)
        share = test_fraction / whole
        start = cut_dates(after, validation_fraction=0.0, test_fraction=share).test_from if after else end
    if end > start:
        what = f"train_until {end:%Y-%m-%d} is after test_from {start:%Y-%m-%d}"
        raise ConfigError(what, fix="training must end before the test begins")
    return CutDates(end, start)


def _cut(name: str, text: str) -> datetime | None:
    found = parsed_date(text) if text else None
    if text and found is None:
        raise ConfigError(f"{name} is no date: got {text!r}, expected {SHOWN_FORMS}", fix=f'{name} = "2025-03-31"')
    return found


def _told(cuts: CutDates, field: str) -> str:
    return (
        f"split by `{field}`: train before {_shown(cuts.train_until)}, validation before {_shown(cuts.test_from)}, "
        "test from then on"
    )


def _shown(date: datetime) -> str:
    return f"{date:%Y-%m-%d}" if date.time() == datetime.min.time() else f"{date:%Y-%m-%dT%H:%M:%S}Z"


def _check_filled(parts: dict[str, list[Sample]], dates: Sequence[datetime], cuts: CutDates) -> None:
    empty = [name for name, part in parts.items() if not part]
    if empty:
        what = (
            f"the {empty[0]} split is empty: rows are from {_shown(min(dates))} to {_shown(max(dates))}, "
            f"cut at {_shown(cuts.train_until)} and {_shown(cuts.test_from)}"
        )
        raise DataError(what, fix="choose cuts that leave rows on each side")
