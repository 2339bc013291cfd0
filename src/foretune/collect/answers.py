"""What annotators sent back, read from any format, each row that cannot be used told by its line."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foretune.collect.annotation import FORMULA
from foretune.collect.tasks import Task
from foretune.data.faults import FaultList, short
from foretune.data.files import DataFile, kind_of
from foretune.data.rows import read_rows
from foretune.errors import Fault, NotFound

__all__ = ["Answer", "Answers", "import_answers"]

YES = ("yes", "y", "true", "1", "x", "ok", "approved")


class Answer(NamedTuple):
    """What one annotator said to one task, under which version of the guidelines; `approved` False = a draft."""

    task_id: str
    annotator: str
    value: str
    guideline: str
    approved: bool = True
    tone: str = ""
    comment: str = ""
    place: str = ""


class Answers(NamedTuple):
    """All answers read; `num_open` tasks were left empty, `num_outdated` answers stand under older guidelines."""

    answers: tuple[Answer, ...]
    num_open: int
    num_outdated: int
    faults: tuple[Fault, ...]

    @property
    def votes(self) -> dict[str, dict[str, str]]:
        """Values by task and annotator, as `agreement` takes them."""
        table: dict[str, dict[str, str]] = {}
        for answer in self.answers:
            table.setdefault(answer.task_id, {})[answer.annotator] = answer.value
        return table


def import_answers(files: Mapping[str, str | Path] | Iterable[str | Path], tasks: Sequence[Task]) -> Answers:
    """Read what annotators sent back, in any format that foretune reads.

    `files` by annotator, or files named `to-NAME` or with a column `annotator`. Rows that cannot be used are faults
    with their line; the others go on. Raises NotFound.
    """
    by_id = {task.id: task for task in tasks}
    named = files.items() if isinstance(files, Mapping) else ((_annotator(Path(path)), path) for path in files)
    found: dict[tuple[str, str], Answer] = {}
    faults: list[Fault] = []
    num_open = 0
    for annotator, path in named:
        listed = FaultList(path)
        num_open += _read_answers(Path(path), annotator, by_id, found, listed)
        faults += listed.faults
    outdated = sum(answer.guideline != by_id[answer.task_id].guideline for answer in found.values())
    return Answers(tuple(found.values()), num_open, outdated, tuple(faults))


def _annotator(path: Path) -> str:
    return path.name.partition(".")[0].removeprefix("to-")


def _read_answers(
    path: Path, annotator: str, tasks: Mapping[str, Task], found: dict[tuple[str, str], Answer], faults: FaultList
) -> int:
    """Add the answers of one file to `found`; how many were left empty."""
    kind = kind_of(path)
    if not path.is_file() or not kind:
        raise NotFound(f"no answers {path}", fix="give the .csv or .jsonl that the annotator sent back")
    num_open = 0
    for row in read_rows(DataFile(path, kind), faults):
        task = _task_of(row.fields, row.line, tasks, faults)
        if task is None:
            continue
        value = _from_cell(row.fields.get("answer"))
        if not value:
            num_open += 1
            continue
        value = _checked(value, task, row.line, faults)
        who = _from_cell(row.fields.get("annotator")) or annotator
        earlier = found.get((task.id, who))
        if earlier is not None and earlier.value != value:
            got = f"{value!r} after {earlier.value!r}"
            faults.add(row.line, f"{who} answers {task.id} twice", value=got, expected="one answer", fix="keep one")
        elif value:
            found[(task.id, who)] = _answer(task, who, value, row.fields, f"{path.name}:{row.line}")
    return num_open


def _task_of(fields: Mapping[str, Any], line: int, tasks: Mapping[str, Task], faults: FaultList) -> Task | None:
    name = _from_cell(fields.get("task_id"))
    if name not in tasks:
        expected = "an id of tasks.jsonl in column task_id"
        faults.add(line, "no such task", value=short(name), expected=expected, fix="keep the column as it was exported")
    return tasks.get(name)


def _checked(value: str, task: Task, line: int, faults: FaultList) -> str:
    """The value as the task spells it; "" and a fault where it is none of its choices."""
    if not task.choices or value in task.choices:
        return value
    spelled = {choice.lower(): choice for choice in task.choices}
    plain = value.lower().removesuffix(".0")
    if plain in spelled:
        return spelled[plain]
    close = difflib.get_close_matches(plain, spelled, n=1)
    fix = f"did you mean {spelled[close[0]]}?" if close else "write one of the choices"
    faults.add(line, f"answer to {task.id}", value=short(value), expected=" | ".join(task.choices), fix=fix)
    return ""


def _answer(task: Task, who: str, value: str, fields: Mapping[str, Any], place: str) -> Answer:
    approved = _from_cell(fields.get("approved")).lower()
    return Answer(
        task_id=task.id,
        annotator=who,
        value=value,
        guideline=_from_cell(fields.get("guideline")) or task.guideline,
        approved=task.kind != "answer" or approved in YES,
        tone=_from_cell(fields.get("tone")).lower(),
        comment=_from_cell(fields.get("comment")),
        place=place,
    )


def _from_cell(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text
