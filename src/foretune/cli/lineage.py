"""`foretune runs lineage`: the runs that led to one, what each round changed, and what that brought."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.compare.lineage import Lineage, Round

__all__ = ["command"]


def command(run: Run = LATEST, runs_dir: RunsDir = DEFAULT_RUNS, json: Json = False, debug: Debug = False) -> Answer:
    """Show the runs that led to this one, round by round.

    A run's parent is what `parent` in its job names, as `diagnose --apply` writes it, or the run that
    `train.advanced.base_adapter` trains on.

    \b
    Examples:
      foretune runs lineage
      foretune runs lineage json-extract-002 --json
    """
    from foretune import api

    found = api.lineage(run, runs_dir=runs_dir)
    last = found.rounds[-1]
    document = {
        "command": "runs lineage",
        "run_id": last.run_id,
        "rounds": [_plain(each) for each in found.rounds],
        "gone": found.gone,
        "children": list(found.children),
    }
    compared = last.gain is not None
    steps = (
        f"foretune compare {found.rounds[-2].run_id} {last.run_id}" if compared else f"foretune diagnose {last.run_id}"
    )
    return Answer(document, _shown(found), next=steps)


def _plain(one: Round) -> dict[str, Any]:
    return {
        **one._asdict(),
        "settings": [changed._asdict() for changed in one.settings],
        "gain": one.gain._asdict() if one.gain else None,
    }


def _shown(found: Lineage) -> list[RenderableType]:
    from rich.markup import escape

    from foretune.cli.tables import plain_table

    table = plain_table("round", "run", "data", ">score", "metric", "verdict", "created")
    for number, one in enumerate(found.rounds, 1):
        score = "–" if one.score is None else f"{one.score:.3f}"
        verdict = one.verdict.replace("_", " ") or one.state
        created = one.created[5:16].replace("T", " ")
        run, data = escape(one.run_id), one.dataset_version[:8]
        table.add_row(str(number), run, data, score, one.metric or "–", verdict, created)
    shown: list[RenderableType] = [table]
    if found.gone:
        shown.append(f"[yellow]made from {escape(found.gone)}, which is not in this runs folder[/]")
    for number, (before, one) in enumerate(pairwise(found.rounds), 2):
        shown += ["", f"[bold]round {number}[/] against round {number - 1}"]
        shown += [escape(line) for line in (*_changes(one), _found(before, one), _gain(one))]
    if found.children:
        shown += ["", escape(f"Made from {found.rounds[-1].run_id}: {', '.join(found.children)}")]
    return shown


def _changes(one: Round) -> list[str]:
    lines = [f"  {changed.name}: {_value(changed.old)} -> {_value(changed.new)}" for changed in one.settings]
    if one.rows is None:
        lines.append("  data: not compared, a version is missing")
    elif counts := [f"{count:,} {kind}" for kind, count in one.rows.items() if count]:
        lines.append(f"  data: {', '.join(counts)}")
    return lines or ["  nothing changed"]


def _found(before: Round, one: Round) -> str:
    names = [", ".join(each.causes).replace("_", " ") or "nothing" for each in (before, one)]
    return f"  diagnosis: {names[0]} -> {names[1]}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in ("", [], ()) else "not set"


def _gain(one: Round) -> str:
    if one.gain is None:
        return f"  not compared: {one.not_compared}"
    gain = one.gain
    said = gain.verdict.replace("_", " ")
    return (
        f"  {said}: {gain.metric} {gain.difference:+.3f} (95 % {gain.ci_low:+.3f} to {gain.ci_high:+.3f}) "
        f"on {gain.n:,} samples"
    )


command.__name__ = "lineage"
