"""What a user's own rows are: the method that suits them, the field that dates them, the field that groups them."""

# SPDX-License-Identifier: Apache-2.0
#
# A method is told from what the rows hold, never from what they mean. A field is taken for a date or a group only
# where a split by it would really leave rows on every side; where it would not, a note says why.
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import DataConfig
from foretune.data.faults import short
from foretune.data.files import find_files, split_of
from foretune.data.formats import ReadData, read_samples, task_of
from foretune.data.labels import labels_of
from foretune.data.samples import Sample
from foretune.data.split import floored_share
from foretune.data.targets import number_of
from foretune.data.time_split import date_field_of, parsed_date, split_by_time
from foretune.errors import ConfigError, DataError

__all__ = ["SETTABLE", "Choice", "OwnData", "own_data"]

# What may be said of the rows beforehand.
SETTABLE = tuple(
    f"data.{name}"
    for name in ("task", "system", "input_field", "target_field", "group_field", "time_field", "max_rows")
)

# Who or what several rows may come from, the widest first: a split by users keeps their threads together too.
GROUP_NAMES = (
    *("customer", "client", "user", "account", "patient", "author", "speaker", "agent"),
    *("thread", "conversation", "dialogue", "dialog", "session", "ticket", "case", "trace"),
    *("document", "doc", "article", "source_document", "paper", "page", "contract", "group"),
)
GROUP_FIELDS = tuple(re.sub(r"_", "", f"{name}{end}") for name in GROUP_NAMES for end in ("id", ""))
FEWEST_GROUPS = 10  # so that validation and test hold several
LARGEST_GROUP = 0.2  # of the rows: a larger group fills a split of its own
LONGEST_GROUP_CHARS = 100  # a longer value is a text, not a name
LEAST_KEPT = 0.75  # of the training rows that a split by time would have without groups and copies
EARLIEST = datetime.fromisoformat("1973-03-03T09:46:40+00:00")  # 1e8 s: smaller numbers are durations or counts
CLASSES_SHOWN = 5
RARELY_REPEATED = 0.5  # more different labels than this share of the rows are answers, not classes
HEAD_BATCH = 64  # samples evaluated at once by a head (requirement R238)
DEFAULT = DataConfig()


class Choice(NamedTuple):
    """A setting of the job as a dotted name, its value, and why, in one line."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class OwnData:
    """What was read: rows and their form, the settings that follow, and what was looked at but not taken."""

    num_rows: int
    form: str
    task: str
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]


def own_data(path: Path, *, is_encoder_decoder: bool = False, settings: Mapping[str, Any] | None = None) -> OwnData:
    """The settings that the rows at `path` call for: method, task, and the fields to split by.

    `path` is a file or folder as `data.path` names it; `is_encoder_decoder`: such a base takes no head of classes;
    `settings` are those of SETTABLE that the user knows. Raises NotFound, MissingDependency, ConfigError for another
    setting, and DataError with every fault of every file.
    """
    said = settings or {}
    read = _read(path, said)
    notes: list[str] = []
    is_split = bool(said.keys() & {"data.time_field", "data.group_field"}) or _names_its_splits(path, notes)
    fields = () if is_split else _split_fields(read.samples, notes)
    found = [choice for choice in (*_method(read, is_encoder_decoder), *fields) if choice.name not in said]
    told = [Choice(name, value, "as you set it") for name, value in said.items()]
    return OwnData(read.num_rows, read.format, read.task, (*found, *told), tuple(notes))


def _read(path: Path, said: Mapping[str, Any]) -> ReadData:
    """The rows, with the fields that the user names. Raises ConfigError for a setting that is none of the rows'."""
    other = next((name for name in said if name not in SETTABLE), "")
    if other:
        what = f"--set {other}: with --data only what the rows mean can be set: {', '.join(SETTABLE)}"
        raise ConfigError(what, fix="set it in the job file that is written")
    names = {name.partition(".")[2]: value for name, value in said.items()}
    task = names.get("task", "auto")
    return read_samples(
        path,
        task="any" if task == "auto" else task,
        input_field=names.get("input_field", ""),
        target_field=names.get("target_field", ""),
        max_rows=names.get("max_rows", 0),
    )


# --- method ---------------------------------------------------------------------------------------------------------


def _method(read: ReadData, is_encoder_decoder: bool) -> Iterator[Choice]:
    """The method, and what of data and evaluation goes with it."""
    if read.task == "text":
        yield Choice("train.method", "pretrain", "raw text holds no answers: the model learns to go on with it")
    elif read.task == "preference":
        yield _preference(read.samples)
        yield Choice("train.advanced.dropout", 0.0, "a preference is compared without dropout: only learning moves it")
    elif read.task == "classify":
        yield from _classes(read, is_encoder_decoder)
    else:
        yield Choice("train.method", "lora", "answers are written: a small adapter on a frozen base learns them")


def _preference(samples: Sequence[Sample]) -> Choice:
    if any(sample.rejected for sample in samples):
        return Choice("train.method", "dpo", "each row has a better and a worse answer to the same prompt")
    num_good = sum(bool(sample.desirable) for sample in samples)
    return Choice("train.method", "kto", f"each answer is judged by itself: {num_good:,} good of {len(samples):,}")


def _classes(read: ReadData, is_encoder_decoder: bool) -> Iterator[Choice]:
    """A head for classes, or for a number; answers in words where labels hardly repeat or the base takes no head."""
    labels = labels_of(read.samples)
    shown = ", ".join(short(label, 30) for label in labels[:CLASSES_SHOWN])
    what = f"{len(labels)} short answers ({shown}{', ...' if len(labels) > CLASSES_SHOWN else ''})"
    is_class = task_of(read.samples) == "classify"
    if not is_class and all(number_of(label) is not None for label in labels):
        yield Choice(
            "train.method", "regress", f"the labels are {len(labels)} different numbers: a head for one number"
        )
        yield Choice("data.task", "chat", "rows are not split by class, since the labels are numbers")
    elif len(labels) > RARELY_REPEATED * len(read.samples):
        yield Choice(
            "train.method", "lora", f"{len(labels)} labels in {len(read.samples)} rows are answers, no classes"
        )
        yield Choice("data.task", "chat", "the labels hardly repeat, so rows are not split by class")
    elif is_encoder_decoder:
        yield Choice("train.method", "lora", f"{what}; an encoder-decoder answers in words, it takes no head")
        yield Choice("data.task", "classify", "splits keep the shares of the classes; accuracy decides")
    else:
        yield Choice("train.method", "classify", f"{what}: a head on the model chooses one; `lora` answers in words")
        yield Choice("data.task", "classify", "splits keep the shares of the classes; accuracy decides")
        yield Choice("evaluate.advanced.batch_size", HEAD_BATCH, "a head reads a text once, so many fit at a time")


# --- fields to split by ---------------------------------------------------------------------------------------------


def _names_its_splits(path: Path, notes: list[str]) -> bool:
    """Whether the files of a folder say themselves which of them is for validation or test."""
    named = sorted({split_of(file.path) for file in find_files(path)} - {"", "train"}) if path.is_dir() else []
    if named:
        notes.append(
            f"the folder names its own {' and '.join(named)} files: they are kept, nothing is split by a field"
        )
    return bool(named)


def _split_fields(samples: Sequence[Sample], notes: list[str]) -> tuple[Choice, ...]:
    """By time where every row is dated, by group where rows come from the same user, thread or document."""
    date = _time(samples, notes)
    group = _group(samples, date.value if date else "", notes)
    return tuple(choice for choice in (date, group) if choice is not None)


def _time(samples: Sequence[Sample], notes: list[str]) -> Choice | None:
    try:
        field = date_field_of(samples)
    except ConfigError:
        return None
    dates = [date for sample in samples if (date := parsed_date(sample.meta[field])) is not None]
    if min(dates) < EARLIEST and not isinstance(samples[0].meta[field], str):
        notes.append(f"`{field}` holds numbers that are too small for seconds since 1970: not split by time")
        return None
    if _lost_by_time(samples, field, notes):
        return None
    return Choice(
        "data.time_field",
        field,
        f"every row is dated, {min(dates):%Y-%m-%d} to {max(dates):%Y-%m-%d}: test rows are the newest",
    )


def _lost_by_time(samples: Sequence[Sample], field: str, notes: list[str], group: str = "") -> bool:
    """Whether a split by time would leave a side empty or too many training rows out; a note says so."""
    by = f"`{field}`" + (f" with `{group}`" if group else "")
    share = floored_share(
        len(samples), DEFAULT.test_fraction, DEFAULT.validation_fraction, DEFAULT.advanced.fewest_test, []
    )
    try:
        splits = split_by_time(
            samples, date_field=field, validation_fraction=DEFAULT.validation_fraction, test_fraction=share
        )
    except DataError as error:
        notes.append(f"not split by {by}: {error.what}")
        return True
    expected = (1 - share - DEFAULT.validation_fraction) * len(samples)
    if len(splits.train) < LEAST_KEPT * expected:
        notes.append(
            f"not split by {by}: only {len(splits.train):,} of about {expected:,.0f} training rows would stay, since "
            "the others come again later"
        )
        return True
    return False


def _group(samples: Sequence[Sample], time_field: str, notes: list[str]) -> Choice | None:
    """The widest of the fields that name whom or what rows come from, where splits by it can be filled."""
    for field in _group_fields(samples):
        counts = Counter(str(sample.meta[field]) for sample in samples)
        largest = counts.most_common(1)[0][1]
        if largest == 1:
            continue
        if len(counts) < FEWEST_GROUPS or largest > LARGEST_GROUP * len(samples):
            notes.append(
                f"not grouped by `{field}`: {len(counts):,} values, the commonest in {largest:,} of {len(samples):,} "
                "rows, are too few to fill three splits"
            )
            continue
        if time_field:
            grouped = [replace(sample, group=str(sample.meta[field])) for sample in samples]
            if _lost_by_time(grouped, time_field, notes, group=field):
                continue
        reason = f"{len(counts):,} values in {len(samples):,} rows: what belongs together stays in one split"
        return Choice("data.group_field", field, reason)
    return None


def _group_fields(samples: Sequence[Sample]) -> list[str]:
    """Fields with a group's name that are filled in every row, in the order of GROUP_FIELDS."""
    names = {field: re.sub(r"[^a-z]", "", field.lower()) for field in samples[0].meta} if samples else {}
    found = [field for field, plain in names.items() if plain in GROUP_FIELDS and _is_filled(samples, field)]
    return sorted(found, key=lambda field: GROUP_FIELDS.index(names[field]))


def _is_filled(samples: Sequence[Sample], field: str) -> bool:
    """Whether every row has a short name or number there."""
    values = (sample.meta.get(field) for sample in samples)
    return all(
        isinstance(value, str | int)
        and not isinstance(value, bool)
        and 0 < len(str(value).strip()) <= LONGEST_GROUP_CHARS
        for value in values
    )
