"""Tasks written out for annotators: a file for each of them, gold items hidden among the others, with the cost."""

# SPDX-License-Identifier: Apache-2.0
#
# FOLDER/tasks.jsonl                   all tasks with the gold answers: yours, not the annotators'
# FOLDER/to-NAME.csv (or .jsonl)       what one annotator gets: tasks in an order of their own, `answer` empty
from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from foretune.collect.tasks import Task
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.base import write_atomically
from foretune.units import show_usd

__all__ = ["Export", "export_tasks", "read_tasks"]

TASKS_FILE = "tasks.jsonl"
COLUMNS = ("task_id", "guideline", "question", "context", "input", "option_a", "option_b", "choices", "answer")
EXTRA_COLUMNS = ("tone", "approved", "comment")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Export(NamedTuple):
    """What was written: a file for each annotator; `num_answers` are asked for in all, `cost` says what they cost."""

    folder: Path
    files: dict[str, Path]
    num_tasks: int
    num_gold: int
    num_answers: int
    cost_usd: float
    cost: str


def export_tasks(
    tasks: Sequence[Task],
    folder: str | Path,
    annotators: Sequence[str],
    *,
    form: Literal["csv", "jsonl"] = "csv",
    per_task: int = 0,
    usd_per_answer: float = 0.0,
    seed: int = 0,
) -> Export:
    """Write the tasks: each to `per_task` annotators (0 = all), gold items to everyone, each in an order of their own.

    Raises ConfigError for annotators or tasks that are named twice, DoesNotFit.
    """
    _check_export(tasks, annotators, per_task)
    home = Path(folder)
    write_atomically(home / TASKS_FILE, "".join(task.model_dump_json() + "\n" for task in tasks))
    shares = _shares(tasks, annotators, per_task or len(annotators), seed)
    files = {}
    for number, name in enumerate(annotators):
        own = list(shares[name])
        random.Random(f"{seed} {number}").shuffle(own)
        files[name] = home / f"to-{name}.{form}"
        write_atomically(files[name], _csv(own) if form == "csv" else _jsonl(own, name))
    num_answers = sum(map(len, shares.values()))
    cost = num_answers * usd_per_answer
    told = f"{num_answers} answers to {len(tasks)} tasks x {show_usd(usd_per_answer)} = {show_usd(cost)}"
    if not usd_per_answer:
        told = f"{num_answers} answers to {len(tasks)} tasks; the price of an answer was not given"
    return Export(home, files, len(tasks), sum(bool(task.gold) for task in tasks), num_answers, cost, told)


def _check_export(tasks: Sequence[Task], annotators: Sequence[str], per_task: int) -> None:
    repeated = [name for name, count in Counter(task.id for task in tasks).items() if count > 1]
    if repeated:
        raise ConfigError(f"two tasks have the id {repeated[0]!r}", fix="give every sample an id of its own")
    if not tasks or not annotators:
        raise ConfigError(f"{len(tasks)} tasks for {len(annotators)} annotators", fix="give at least one of each")
    if len({name.lower() for name in annotators}) < len(annotators):
        raise ConfigError(f"annotators are named twice: {', '.join(annotators)}", fix="one name a person")
    strange = [name for name in annotators if not name or set(name) & set('/\\:*?"<>|.\n')]
    if strange:
        raise ConfigError(f"{strange[0]!r} cannot be part of a file name", fix="letters, digits, - and _")
    if not 0 <= per_task <= len(annotators):
        raise ConfigError(f"per_task {per_task} with {len(annotators)} annotators", fix="per_task = 2")


def _shares(tasks: Sequence[Task], annotators: Sequence[str], per_task: int, seed: int) -> dict[str, list[Task]]:
    """Tasks by annotator: gold to all, the others dealt out in turn, so that all get as many and every pair meets."""
    order = list(range(len(annotators)))
    random.Random(seed).shuffle(order)
    shares: dict[str, list[Task]] = {name: [] for name in annotators}
    dealt = 0
    for task in tasks:
        if task.gold:
            chosen = list(range(len(annotators)))
        else:
            step = 1 + (dealt // len(annotators)) % max(len(annotators) - 1, 1)
            chosen = _spaced(dealt, step, per_task, len(annotators))
            dealt += 1
        for index in chosen:
            shares[annotators[order[index]]].append(task)
    return shares


def _spaced(start: int, step: int, count: int, size: int) -> list[int]:
    """`count` different places of a circle of `size`, from `start` on, `step` apart where that is possible."""
    found: list[int] = []
    place = start % size
    while len(found) < count:
        while place in found:
            place = (place + 1) % size
        found.append(place)
        place = (place + step) % size
    return found


def _fields(task: Task) -> dict[str, Any]:
    """What an annotator sees of a task."""
    fields = {**task.model_dump(include=set(COLUMNS)), "task_id": task.id, "answer": ""}
    extra = {"tone": "", "approved": ""} if task.kind == "answer" else {}
    return {**{name: fields[name] for name in COLUMNS}, **extra, "comment": ""}


def _jsonl(tasks: Sequence[Task], annotator: str) -> str:
    rows = ({**_fields(task), "annotator": annotator} for task in tasks)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(tasks: Sequence[Task]) -> str:
    """For spreadsheets: with a byte order mark, and cells that they would run as a formula quoted."""
    text = io.StringIO()
    rows = [{**_fields(task), "choices": " | ".join(task.choices)} for task in tasks]
    names = [name for name in (*COLUMNS, *EXTRA_COLUMNS) if any(name in row for row in rows)]
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows({name: _as_cell(value) for name, value in row.items()} for row in rows)
    return "\ufeff" + text.getvalue()


def _as_cell(value: str) -> str:
    return f"'{value}" if value.startswith(FORMULA) else value


def read_tasks(folder: str | Path) -> list[Task]:
    """The tasks that were exported into a folder, gold answers included. Raises NotFound, DataError."""
    path = Path(folder) / TASKS_FILE
    if not path.is_file():
        raise NotFound(f"no {TASKS_FILE} in {folder}", fix="give the folder that the tasks were exported into")
    tasks = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        try:
            tasks += [Task.model_validate_json(line)] if line else []
        except ValidationError as error:
            raise DataError(f"{path}:{number}: {error.errors()[0]['msg']}", fix="export the tasks again") from None
    return tasks
