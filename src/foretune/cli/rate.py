"""Blind rating in the terminal, by the keyboard alone, and its exchange with raters elsewhere as CSV."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.cli.face import Answer, console
from foretune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.evaluate.rating import Pair, Queue
    from foretune.records.ratings import Rating, RatingsRecord

__all__ = ["export_ratings", "import_ratings", "rate"]

KEYS = {"a": "a", "1": "a", "b": "b", "2": "b", "t": "tie", "0": "tie", "=": "tie"}
HELP = "a or b: better   t: equal   s: skip   q: stop"
END, ESCAPE, INTERRUPT = "", "\x1b", "\x03"
COLUMNS = ("item", "rater", "request", "answer_a", "answer_b", "better")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
ReadKey = Callable[[], str]  # one key in lower case, "" at the end of the input


def rate(run_dir: Path, rater: str, criteria: Sequence[str], *, read_key: ReadKey | None = None) -> Answer:
    """Show one pair after the other until there is none left or the rater stops; every vote is kept at once."""
    from foretune.evaluate.rating import open_queue, waiting
    from foretune.records.ratings import add_ratings, read_ratings

    queue = open_queue(run_dir)
    left = waiting(queue, read_ratings(run_dir), rater)
    key = read_key or _key_reader()
    out, num_rated = console(sys.stderr), 0
    for number, pair in enumerate(left, start=1):
        _show(out, queue, pair, rater, f"{number} of {len(left)}", _needed(queue, run_dir))
        rating = _asked(out, queue, pair, rater, criteria, key)
        if isinstance(rating, str):
            if rating == "stop":
                break
            continue
        add_ratings(run_dir, rating)
        num_rated += 1
    is_blind = bool(waiting(queue, read_ratings(run_dir), rater))
    return _summary(run_dir, queue, {"num_new": num_rated}, blind_rater=rater if is_blind else "")


def export_ratings(run_dir: Path, rater: str, criteria: Sequence[str], target: Path) -> Answer:
    """Write the pairs that a rater has not rated as a table to fill in; nothing in it tells the models."""
    from foretune.evaluate.rating import open_queue, waiting
    from foretune.records.base import write_atomically
    from foretune.records.ratings import read_ratings

    if target.exists():
        raise ConfigError(f"{target} exists already, and may hold votes", fix="name another file")
    queue = open_queue(run_dir)
    pairs = waiting(queue, read_ratings(run_dir), rater)
    marks = [f"{side}_{name}" for side in ("a", "b") for name in criteria]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *marks, "comment"], restval="")
    writer.writeheader()
    writer.writerows(_row(queue, pair, rater) for pair in pairs)
    write_atomically(target, ("\ufeff" + text.getvalue()).encode("utf-8", "replace"))
    told = ", and the marks with 1 to 5" if criteria else ""
    shown = [f"{len(pairs):,} pairs for {rater}: fill the column `better` with a, b or tie{told}"]
    document = {"command": "evaluate", "run_id": run_dir.name, "path": str(target), "num_pairs": len(pairs)}
    return Answer(document, shown, next=f"foretune evaluate {run_dir.name} --import-ratings {target}")


def import_ratings(run_dir: Path, criteria: Sequence[str], source: Path) -> Answer:
    """Take the votes of a filled table over; all its faults at once, and none of it where there is one."""
    from foretune.evaluate.rating import open_queue, rating_item
    from foretune.records.ratings import add_ratings

    queue = open_queue(run_dir)
    known: dict[str, dict[str, str]] = {}  # rater -> item -> sample
    ratings: list[Rating] = []
    faults: list[str] = []
    num_empty = 0
    for line, row in enumerate(_table(source), start=2):
        cells = {str(name).strip(): _plain(value) for name, value in row.items() if name}
        if not cells.get("better"):
            num_empty += 1
            continue
        rater = cells.get("rater", "")
        if rater not in known:
            known[rater] = {rating_item(queue.run_id, pair.sample_id, rater): pair.sample_id for pair in queue.pairs}
        found = _imported(queue, known[rater], cells, criteria)
        if isinstance(found, str):
            faults.append(f"{source}:{line}: {found}")
        else:
            ratings.append(found)
    if faults:
        more = f"\nand {len(faults) - 20} more" if len(faults) > 20 else ""
        raise DataError("\n".join(faults[:20]) + more, fix="mend these cells, then import the file again")
    add_ratings(run_dir, *ratings)
    return _summary(run_dir, queue, {"num_new": len(ratings), "num_empty": num_empty})


def _asked(out: Any, queue: Queue, pair: Pair, rater: str, criteria: Sequence[str], key: ReadKey) -> Rating | str:
    """The vote on one pair, or "skip" or "stop"."""
    pressed = _pressed(out, HELP, {*KEYS, "s", "q"}, key)
    if pressed in ("q", "s"):
        return "stop" if pressed == "q" else "skip"
    marks: dict[str, int] = {}
    for side in ("a", "b"):
        for name in criteria:
            mark = _pressed(out, f"{name} of answer {side.upper()}, 1 to 5 (q: stop)", {*"12345", "q"}, key)
            if mark == "q":
                return "stop"
            marks[f"{side}_{name}"] = int(mark)
    return _rating(queue, pair.sample_id, rater, KEYS[pressed], marks)


def _pressed(out: Any, prompt: str, allowed: set[str], key: ReadKey) -> str:
    out.print(f"[bold]{prompt}[/] ", end="")
    while True:
        pressed = key()
        if pressed in (END, ESCAPE, INTERRUPT):
            pressed = "q"
        if pressed in allowed:
            out.print(pressed)
            return pressed


def _show(out: Any, queue: Queue, pair: Pair, rater: str, place: str, needed: str) -> None:
    """The request and both answers; nothing on the screen says which model wrote which."""
    from rich.markup import escape
    from rich.rule import Rule

    first, second = _sides(queue, pair, rater)
    out.print(Rule(f"pair {place}{needed}", align="left"))
    for title, text in (("request", pair.question), ("answer A", first), ("answer B", second)):
        out.print(f"\n[bold]{title}[/]\n{escape(text) or '[dim](empty)[/]'}")
    out.print()


def _needed(queue: Queue, run_dir: Path) -> str:
    from foretune.evaluate.rating import summarise
    from foretune.records.ratings import read_ratings

    needed = summarise(queue, read_ratings(run_dir)).votes_needed
    return f", about {needed:,} more pairs for a verdict" if needed else ""


def _sides(queue: Queue, pair: Pair, rater: str) -> tuple[str, str]:
    from foretune.evaluate.rating import is_candidate_first

    both = (pair.candidate, pair.baseline)
    return both if is_candidate_first(queue.run_id, pair.sample_id, rater) else (both[1], both[0])


def _rating(queue: Queue, sample_id: str, rater: str, better: str, marks: dict[str, int], comment: str = "") -> Rating:
    """The vote, with the sides turned back into candidate and baseline."""
    from foretune.evaluate.rating import first_side
    from foretune.records.ratings import Rating

    first = first_side(queue.run_id, sample_id, rater)
    by_side = {side: {n[2:]: v for n, v in marks.items() if n.startswith(f"{side}_")} for side in ("a", "b")}
    candidate, baseline = ("a", "b") if first == "candidate" else ("b", "a")
    winner = "tie" if better == "tie" else "candidate" if better == candidate else "baseline"
    return Rating(
        sample_id=sample_id,
        rater=rater,
        shown_first=first,
        winner=winner,  # type: ignore[arg-type]
        candidate_marks=by_side[candidate],
        baseline_marks=by_side[baseline],
        comment=comment,
        rated_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _row(queue: Queue, pair: Pair, rater: str) -> dict[str, str]:
    from foretune.evaluate.rating import rating_item

    first, second = _sides(queue, pair, rater)
    texts = {"request": pair.question, "answer_a": first, "answer_b": second}
    return {
        "item": rating_item(queue.run_id, pair.sample_id, rater),
        "rater": rater,
        **{name: f"'{text}" if text.startswith(FORMULA) else text for name, text in texts.items()},
    }


def _imported(queue: Queue, known: dict[str, str], cells: dict[str, str], criteria: Sequence[str]) -> Rating | str:
    """The vote of a row, or what is wrong with it."""
    item, rater, better = cells.get("item", ""), cells.get("rater", ""), cells["better"].lower()
    if not rater:
        return "no rater, expected the name that the table was written for"
    if item not in known:
        return f"item {item!r} is no pair of run {queue.run_id} for rater {rater!r}, whom the table must be written for"
    if better not in KEYS and better != "tie":
        return f"better is {better!r}, expected a, b or tie"
    marks: dict[str, int] = {}
    for name in (f"{side}_{criterion}" for side in ("a", "b") for criterion in criteria):
        value = cells.get(name, "")
        if value and value not in ("1", "2", "3", "4", "5"):
            return f"{name} is {value!r}, expected 1 to 5"
        marks |= {name: int(value)} if value else {}
    return _rating(queue, known[item], rater, KEYS.get(better, "tie"), marks, cells.get("comment", ""))


def _table(source: Path) -> list[dict[str, str]]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{source}: not UTF-8", fix="save it as CSV in UTF-8") from None
    if source.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    missing = [name for name in ("item", "rater", "better") if rows and name not in rows[0]]
    if missing or not rows:
        raise DataError(f"{source}: no column {missing[0] if missing else 'at all'}", fix="export the pairs again")
    return rows


def _plain(value: object) -> str:
    return str(value or "").strip()


def _key_reader() -> ReadKey:
    """Single keys of a terminal; lines where the input is none."""
    return _terminal_key if sys.stdin.isatty() else _line_key


def _line_key() -> str:
    """The first letter of the next line that is not empty."""
    for line in sys.stdin:
        if line.strip():
            return line.strip().lower()[:1]
    return END


def _terminal_key() -> str:
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        return sys.stdin.read(1).lower()
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _summary(run_dir: Path, queue: Queue, document: dict[str, Any], *, blind_rater: str = "") -> Answer:
    """What all votes say; `blind_rater`, who is not through yet, hears how many there are, and nothing of the sides."""
    from foretune.evaluate.rating import summarise
    from foretune.records.ratings import read_ratings

    record = summarise(queue, read_ratings(run_dir), _judged(run_dir))
    record.write(run_dir)
    document = {"command": "evaluate", "run_id": run_dir.name, **document, "ratings": record.as_dict()}
    if blind_rater:
        document["ratings"] = {name: document["ratings"][name] for name in ("num_pairs", "num_rated", "num_votes")}
    return Answer(document, _progress(record) if blind_rater else _shown(record), next=_next(record, blind_rater))


def _next(record: RatingsRecord, blind_rater: str) -> str:
    is_open = blind_rater or (record.votes_needed and record.num_rated < record.num_pairs)
    who = f" --rater {shlex.quote(blind_rater)}" if blind_rater else ""
    return f"foretune evaluate {record.run_id} --rate{who}" if is_open else f"foretune report {record.run_id}"


def _judged(run_dir: Path) -> dict[str, float]:
    from foretune.evaluate.judge import JUDGE_FILE

    path = run_dir / JUDGE_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = (json.loads(line) for line in lines if line)
    return {str(row["sample_id"]): float(row["score"]) for row in rows}


def _progress(record: RatingsRecord) -> list[RenderableType]:
    votes = f"{record.num_votes:,} votes on {record.num_rated:,} of {record.num_pairs:,} pairs so far"
    needed = f"about {record.votes_needed:,} more pairs for a verdict" if record.votes_needed else ""
    told = "which model they favour is shown when you are through, and stands in ratings.json"
    return [votes, *([needed] if needed else []), f"[dim]{told}[/]"]


def _left(record: RatingsRecord) -> str:
    """Where the run has fewer pairs than a verdict takes: that more raters do not replace them."""
    left = record.num_pairs - record.num_rated
    is_short = record.votes_needed is not None and record.votes_needed > left
    return f"; this run has {left:,} left, so it takes a larger test split" if is_short else ""


def _shown(record: RatingsRecord) -> list[RenderableType]:
    from foretune.cli.show import plain_table, warning_lines

    votes = f"{record.num_votes:,} votes on {record.num_rated:,} of {record.num_pairs:,} pairs"
    raters = "1 rater" if len(record.raters) == 1 else f"{len(record.raters)} raters"
    shown: list[RenderableType] = [
        f"[bold]{record.verdict.replace('_', ' ')}[/]: {votes} by {raters}; "
        f"{record.wins} for {record.candidate}, {record.losses} for {record.baseline}, {record.ties} equal",
        f"preference {record.preference:+.2f} (95 % {record.ci_low:+.2f} to {record.ci_high:+.2f})",
    ]
    if record.votes_needed:
        shown.append(f"about {record.votes_needed:,} more pairs for a verdict{_left(record)}")
    if record.agreement_said:
        shown.append(f"raters: {record.agreement_said}")
    if record.judge_agreement is not None:
        shown.append(f"judge and people: kappa {record.judge_agreement:.2f}")
    if record.criteria:
        table = plain_table("criterion", f">{record.candidate}", f">{record.baseline}", ">marks")
        for one in record.criteria:
            table.add_row(one.name, f"{one.candidate:.2f}", f"{one.baseline:.2f}", str(one.n))
        shown += ["", table]
    return [*shown, *warning_lines(record.notes)]
