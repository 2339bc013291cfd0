"""Outcomes of split traffic, from a CSV, JSON lines, SQLite or the gateway's own log: each counted once, none lost."""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: N rows, in order of time.
from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foretune.errors import DataError, Fault, NotFound
from foretune.records.request_log import RequestEntry
from foretune.stats.checks import FloatArray, IntArray

__all__ = ["SQL_TABLE", "Outcomes", "outcomes_of_rows", "read_outcomes"]

SQL_TABLE = "outcomes"
COLUMNS = {
    "time": ("time", "timestamp", "date", "created_at", "ts"),
    "user": ("user", "user_id", "unit", "account", "session"),
    "variant": ("variant", "arm", "group", "bucket"),
    "id": ("id", "event_id", "request_id", "outcome_id"),
    "metric": ("metric", "outcome", "kind"),
    "value": ("value",),
}
WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
BACKWARD_SECONDS = 60.0  # servers that log side by side are a few seconds out of order
MAX_FAULTS = 20
BACKWARDS = "clock went backwards"
TWICE = "logged twice, counted once"


class Event(NamedTuple):
    """One logged row: outcomes by name, possibly none (an exposure)."""

    seconds: float
    user: str
    variant: str
    values: dict[str, float]


@dataclass(frozen=True)
class Outcomes:
    """Rows in order of time; `values` holds NaN where a row lacks an outcome, `seconds_N` is UTC since 1970.

    `set_aside` are the rows that could not be used, with the reason; `notes` what was found odd.
    """

    users: tuple[str, ...]
    variants: tuple[str, ...]
    user_N: IntArray
    variant_N: IntArray
    seconds_N: FloatArray
    values: dict[str, FloatArray]
    num_read: int = 0
    set_aside: tuple[Fault, ...] = ()
    num_set_aside: int = 0
    notes: tuple[str, ...] = ()

    @property
    def named_variants(self) -> tuple[str, ...]:
        """The variants that rows name; users of the time before the start have none yet."""
        return tuple(name for name in self.variants if name)

    @property
    def num_rows(self) -> int:
        """Rows that count."""
        return self.user_N.size


@dataclass
class _Log:
    """What reading collects on the way."""

    file: str
    events: list[Event] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def refuse(self, line: int, what: str, value: str, expected: str) -> None:
        self.counts["set aside"] += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(self.file, line, what, value[:60], expected))


def read_outcomes(path: str | Path) -> Outcomes:
    """Read outcomes from `.csv`, `.jsonl` (plain rows or the gateway's request log) or `.sqlite` (table `outcomes`).

    Columns: time (ISO 8601 or seconds since 1970), user, variant, perhaps id, and either one column an outcome or
    metric and value. A row without outcome is an exposure, one without variant belongs to the time before the start.
    An id logged twice counts once. Raises NotFound, or DataError where a needed column is missing or no row can be
    used.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFound(f"no outcomes at {file}", fix="foretune compare --outcomes FILE.csv")
    readers = {".jsonl": _json_rows, ".ndjson": _json_rows, ".sqlite": _sql_rows, ".db": _sql_rows}
    try:
        rows = readers.get(file.suffix.lower(), _csv_rows)(file)
        return outcomes_of_rows(rows, str(file))
    except (UnicodeDecodeError, csv.Error, sqlite3.Error) as error:
        is_sql = isinstance(error, sqlite3.Error)
        fix = f"an SQLite file holds a table or view named {SQL_TABLE}" if is_sql else "save it as UTF-8 CSV"
        raise DataError(f"{file}: cannot be read as {file.suffix or 'CSV'} ({error})", fix=fix) from None


def outcomes_of_rows(rows: Iterable[tuple[int, Mapping[str, Any]]], file: str = "outcomes") -> Outcomes:
    """The same from (line, row) pairs that somebody else has read."""
    log = _Log(file)
    seen: dict[Any, dict[str, Any]] = {}
    gateway: dict[str, Event] = {}
    ratings: dict[str, float] = {}
    for line, row in rows:
        log.counts["read"] += 1
        if set(row) == {""}:
            log.refuse(line, "not a JSON object", str(row[""]), "one object a line")
        elif row.get("type") == "request" and "messages" in row:
            _request(log, line, row, gateway)
        elif row.get("type") == "feedback":
            _feedback(log, row, ratings)
        else:
            _plain(log, line, row, seen)
    for name, rating in ratings.items():
        if name in gateway:
            gateway[name].values["satisfaction"] = float(rating > 0)
        else:
            log.counts["of feedback without its request, left out"] += 1
    log.events.extend(gateway.values())
    return _arranged(log)


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, restkey="", restval="")
        for row in reader:
            yield reader.line_num, row


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError:
                row = None
            yield line, row if isinstance(row, dict) else {"": text.strip()}


def _sql_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        for line, row in enumerate(connection.execute(f"SELECT * FROM {SQL_TABLE}"), 1):
            yield line, dict(row)
    finally:
        connection.close()


def _request(log: _Log, line: int, row: Mapping[str, Any], gateway: dict[str, Event]) -> None:
    try:
        entry = RequestEntry.model_validate(row)
    except ValueError:
        log.refuse(line, "a request that cannot be read", str(row.get("id", "")), "the gateway's own form")
        return
    if entry.id in gateway:
        log.counts[TWICE] += 1
        return
    key = _key(log, line, {"time": entry.time, "user": entry.user or entry.session, "variant": entry.variant})
    if key is None:
        return
    failed = entry.status >= 400
    values = {"error": float(failed), "latency_seconds": entry.latency_seconds, "cost_usd": entry.cost_usd}
    if not failed:
        values["answer_tokens"] = float(entry.answer_tokens)
    gateway[entry.id] = Event(*key, values)


def _feedback(log: _Log, row: Mapping[str, Any], ratings: dict[str, float]) -> None:
    name, rating = str(row.get("id", "")), row.get("rating", 0)
    if isinstance(rating, int | float) and rating:
        log.counts[TWICE] += name in ratings
        ratings[name] = float(rating)


def _plain(log: _Log, line: int, row: Mapping[str, Any], seen: dict[Any, dict[str, Any]]) -> None:
    named = {name: _field(row, aliases) for name, aliases in COLUMNS.items()}
    missing = [name for name in ("time", "user") if named[name] is None]
    if missing and not log.events and not log.faults:
        raise DataError(
            f"{log.file}:{line}: no column for {', '.join(missing)}, expected time, user, variant and outcomes",
            fix=f"columns found: {', '.join(str(name) for name in row) or 'none'}; rename them, e.g. user_id to user",
        )
    identity = (
        (str(named["id"]), str(named["metric"])) if named["id"] not in (None, "") else tuple(map(str, row.values()))
    )
    if identity in seen:
        log.counts[TWICE] += 1
        log.counts["logged twice with another content: the first counts"] += dict(row) != seen[identity]
        return
    key = _key(log, line, named)
    values = None if key is None else _values(log, line, row, named)
    if key is not None and values is not None:
        seen[identity] = dict(row)
        log.events.append(Event(*key, values))


def _field(row: Mapping[str, Any], aliases: tuple[str, ...]) -> Any:
    for name in row:
        if isinstance(name, str) and name.strip().lower() in aliases:
            return "" if row[name] is None else row[name]
    return None


def _key(log: _Log, line: int, named: Mapping[str, Any]) -> tuple[float, str, str] | None:
    user, variant = str(named["user"] or "").strip(), str(named["variant"] or "").strip()
    if not user:
        log.refuse(line, "no user", "", "an id in every row")
        return None
    seconds = _seconds(named["time"])
    if seconds is None:
        log.refuse(line, "time", repr(named["time"]), "ISO 8601 or seconds since 1970")
        return None
    return seconds, user, variant


def _seconds(value: Any) -> float | None:
    try:
        number = float(value)
        return number if math.isfinite(number) else None
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _values(log: _Log, line: int, row: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, float] | None:
    if named["metric"] is not None:
        cells = {str(named["metric"]): named["value"]} if named["metric"] != "" else {}
    else:
        known = {alias for aliases in COLUMNS.values() for alias in aliases}
        cells = {str(name): value for name, value in row.items() if str(name).strip().lower() not in known and name}
    values: dict[str, float] = {}
    for name, cell in cells.items():
        if cell is None or cell == "":
            continue
        number = WORDS.get(str(cell).strip().lower())
        try:
            number = float(cell) if number is None else number
        except (TypeError, ValueError):
            log.counts[f"with text in column {name!r}, which is no outcome there"] += 1
            continue
        if not math.isfinite(number):
            log.refuse(line, f"{name} is not finite", str(cell), "a finite number or an empty cell")
            return None
        values[name.strip()] = number
    return values


def _note(what: str, count: int) -> str:
    if what == BACKWARDS:
        return f"the clock went backwards {count:,} times; the rows were put in order of time"
    return f"{count:,} row{'' if count == 1 else 's'} {what}"


def _arranged(log: _Log) -> Outcomes:
    if not log.events:
        shown = f"; the first: {log.faults[0]}" if log.faults else ""
        raise DataError(f"{log.file}: no usable row{shown}", fix="columns: time, user, variant, outcomes")
    seconds = np.array([event.seconds for event in log.events])
    backwards = int((np.diff(seconds) < -BACKWARD_SECONDS).sum())
    if backwards:
        log.counts[BACKWARDS] = backwards
    order = np.argsort(seconds, kind="stable")
    events = [log.events[index] for index in order]
    users, user_N = np.unique([event.user for event in events], return_inverse=True)
    variants, variant_N = np.unique([event.variant for event in events], return_inverse=True)
    names = dict.fromkeys(name for event in events for name in event.values)
    values = {name: np.array([event.values.get(name, math.nan) for event in events]) for name in names}
    notes = [_note(what, count) for what, count in log.counts.items() if what not in ("read", "set aside") and count]
    return Outcomes(
        users=tuple(str(name) for name in users),
        variants=tuple(str(name) for name in variants),
        user_N=user_N.astype(np.intp),
        variant_N=variant_N.astype(np.intp),
        seconds_N=seconds[order],
        values=values,
        num_read=log.counts["read"],
        set_aside=tuple(log.faults),
        num_set_aside=log.counts["set aside"],
        notes=tuple(notes),
    )
