"""`foretune data rank`, `claims` and `licences`: what a person should read, and what a licence forbids."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.data_rows import Seed, Source, read_file, write_file
from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir
from foretune.errors import ConfigError, GateRefused

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.data.samples import Sample

__all__ = ["claims", "licences", "rank"]

SHOWN_ROWS = 10
SHOWN_CHARS = 100
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File to write.")]


def rank(
    source: Source,
    clicks: Annotated[
        Path | None, typer.Option("--clicks", metavar="FILE", help="Rows you judged: columns id and reject.")
    ] = None,
    ask: Annotated[int, typer.Option("--ask", min=0, help="Write so many rows for you to judge; 200 is good.")] = 0,
    out: Out = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Rank rows by how likely you would reject them, taught by your own clicks.

    First write rows to judge, fill the column `reject` with yes or no, then rank
    all rows by them. Without clicks the rules alone rank.

    \b
    Examples:
      foretune data rank train.jsonl --ask 200 --out clicks.csv
      foretune data rank train.jsonl --clicks clicks.csv --out ranked.jsonl
    """
    samples = read_file(source).samples
    if ask:
        return _asked(source, samples, ask, out, clicks, seed)
    return _ranked(source, samples, clicks, out)


def _asked(
    source: Path, samples: Sequence[Sample], ask: int, out: Path | None, clicks: Path | None, seed: int
) -> Answer:
    from foretune.audit.clicks import read_clicks, write_questions
    from foretune.audit.rank import rows_to_ask

    if out is None:
        raise ConfigError("--ask writes the rows to judge, and --out is missing", fix="--out clicks.csv")
    if out.exists():
        raise ConfigError(f"{out} exists already, and may hold your verdicts", fix="--out clicks-2.csv")
    judged = tuple(read_clicks(clicks, samples)) if clicks is not None else ()
    rows = rows_to_ask(len(samples), ask, seed=seed, asked=judged)
    write_questions(samples, rows, out)
    document = {"command": "data rank", "path": str(out), "num_asked": len(rows)}
    shown = [f"[bold]{len(rows):,}[/] rows to judge, drawn at random: fill the column `reject` with yes or no"]
    return Answer(document, shown, next=f"foretune data rank {source} --clicks {out} --out ranked.jsonl")


def _ranked(source: Path, samples: Sequence[Sample], clicks: Path | None, out: Path | None) -> Answer:
    from dataclasses import replace

    from foretune.audit.clicks import read_clicks
    from foretune.audit.rank import rank_rows

    verdicts = read_clicks(clicks, samples) if clicks is not None else {}
    chances = [float(value) for value in rank_rows(samples, verdicts)]
    order = sorted(range(len(samples)), key=lambda row: (-chances[row], row))
    then = f"foretune data rank {source} --ask 200 --out clicks.csv"
    if out is not None:
        ranked = [replace(samples[r], meta={**samples[r].meta, "keep": round(1 - chances[r], 4)}) for r in order]
        write_file(ranked, out, _card_of(source, f"{source.name}, the most doubtful rows first"))
        count = max(1, round(0.9 * len(samples)))
        then = f"foretune data subset {out} best.jsonl --count {count} --by quality --field keep"
    rows = [{"id": samples[row].id, "place": samples[row].place, "reject": round(chances[row], 4)} for row in order]
    taught = (
        f"{len(verdicts):,} clicks, {sum(verdicts.values()):,} rejections" if verdicts else "no clicks: rules alone"
    )
    document = {"command": "data rank", "num_clicks": len(verdicts), "rows": rows, "path": str(out) if out else ""}
    return Answer(document, [f"taught by {taught}", _doubtful(samples, chances, order)], next=then)


def _card_of(source: Path, note: str) -> Any:
    from foretune.collect.sources import derived_card
    from foretune.data.files import find_files

    return derived_card([file.path for file in find_files(source)], note)


def _doubtful(samples: Sequence[Sample], chances: Sequence[float], order: Sequence[int]) -> RenderableType:
    from rich.markup import escape

    from foretune.cli.show import plain_table

    table = plain_table(">reject", "row", "input -> answer", title="most doubtful first")
    for row in order[:SHOWN_ROWS]:
        sample = samples[row]
        text = " ".join(f"{sample.input_text[:60]} -> {(sample.target or sample.text)[:60]}".split())
        table.add_row(f"{chances[row]:.0%}", escape(sample.id), escape(text[:SHOWN_CHARS]))
    return table


def claims(
    source: Source,
    out: Out = None,
    most: Annotated[int, typer.Option("--most", min=0, help="So many claims at most; 0 = all.")] = 0,
    decided: Annotated[
        Path | None, typer.Option("--decided", metavar="FILE", help="Claims you judged: writes a recipe to --out.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """List what answers state as fact, the most checkable first, for people to verify.

    Fill the column `verdict` with true or false; `--decided` then writes the recipe
    that drops the rows with false claims.

    \b
    Examples:
      foretune data claims train.jsonl --out claims.csv
      foretune data claims train.jsonl --decided claims.csv --out clean.toml
    """
    from foretune.data.claims import claims as claims_in

    if decided is not None:
        return _decided(decided, out)
    samples = read_file(source).samples
    found = claims_in(samples, most=most)
    rows = [{**claim._asdict(), "why": ", ".join(claim.why), "verdict": ""} for claim in found]
    if out is not None:
        _write_table(rows, out)
    kinds = Counter(name for claim in found for name in claim.why)
    shown = [f"[bold]{len(found):,}[/] sentences of {len(samples):,} rows state facts that can be looked up"]
    shown += [_claim_line(claim.place, claim.text) for claim in found[:SHOWN_ROWS]]
    then = f"foretune data claims {source} --out claims.csv"
    if out is not None:
        then = f"foretune data claims {source} --decided {out} --out clean.toml"
    document = {"command": "data claims", "num_samples": len(samples), "num_claims": len(found), "kinds": dict(kinds)}
    return Answer({**document, "claims": rows, "path": str(out) if out else ""}, shown, next=then)


def _claim_line(place: str, text: str) -> str:
    from rich.markup import escape

    return f"  [dim]{escape(place)}[/] {escape(text[:SHOWN_CHARS])}"


def _write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Rows as CSV or, by the ending, as JSONL."""
    import csv
    import io
    import json

    from foretune.records.base import write_atomically

    if path.suffix == ".jsonl":
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["sample_id", "verdict"])
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, ("\ufeff" + text.getvalue()).encode("utf-8", "replace"))


def _decided(decided: Path, out: Path | None) -> Answer:
    """The recipe that drops the rows whose claims were judged false."""
    from foretune.data.clean.recipe import Recipe, Step, write_recipe
    from foretune.data.faults import FaultList, fault_error
    from foretune.data.files import find_files
    from foretune.data.rows import read_rows

    if out is None:
        raise ConfigError("--decided writes a recipe, and --out is missing", fix="--out clean.toml")
    (file,) = find_files(decided)[:1]
    faults = FaultList(decided)
    verdicts: dict[str, set[str]] = {}
    for row in read_rows(file, faults):
        verdict = str(row.fields.get("verdict") or "").strip().lower()
        verdicts.setdefault(verdict, set()).add(str(row.fields.get("sample_id", "")))
    if faults.count:
        raise fault_error(faults.faults, str(decided), count=faults.count)
    wrong = sorted(verdicts.get("false", set()) | verdicts.get("no", set()) | verdicts.get("wrong", set()))
    if not set(verdicts) - {""}:
        raise ConfigError(f"{decided}: no claim is judged", fix="fill the column `verdict` with true or false")
    step = Step(do="drop_ids", params={"ids": wrong}, why="claims that a reader judged false")
    path = write_recipe(Recipe(steps=(step,) if wrong else ()), out)
    document = {"command": "data claims", "path": str(path), "num_wrong": len(wrong), "ids": wrong}
    shown = [f"{len(wrong):,} rows with a false claim; {len(verdicts.get('', ())):,} rows still hold open ones"]
    return Answer(document, shown, next=f"foretune data clean VERSION --recipe {path}")


def licences(
    source: Annotated[str, typer.Argument(metavar="FILE|RUN", help="File or folder of samples, or a run.")],
    release: Annotated[
        str, typer.Option("--release", metavar="LICENCE", help="Licence that the result is to go out under.")
    ] = "Apache-2.0",
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Say what each source's licence allows, and whether a release is in conflict with it.

    Exit code 6 where it is. A reading aid, not legal advice.

    \b
    Examples:
      foretune data licences train.jsonl
      foretune data licences latest --release MIT
    """
    from rich.markup import escape

    from foretune.cli.show import plain_table, warning_lines
    from foretune.collect.rights import rights_of_path, rights_of_run
    from foretune.data.licences import licence_terms, release_conflicts

    rights = rights_of_path(Path(source)) if Path(source).exists() else rights_of_run(runs_dir, source)
    table = plain_table("source", "licence", ">rows", "commercial use", "changed copies")
    for right in rights:
        terms = licence_terms(right.licence)
        allowed = [
            {True: "yes", False: "no", None: "not known"}[value] for value in (terms.commercial, terms.derivatives)
        ]
        table.add_row(escape(right.source), escape(right.licence), f"{right.num_rows:,}", *allowed)
    conflicts = release_conflicts([(right.source, right.licence) for right in rights], release)
    told = [f"{one.source} ({one.licence}): {one.why}" for one in conflicts]
    freer = ", ".join(dict.fromkeys(name for one in conflicts for name in one.instead))
    document = {
        "command": "data licences",
        "release": release,
        "sources": [right._asdict() for right in rights],
        "conflicts": [one._asdict() for one in conflicts],
    }
    shown: list[RenderableType] = [table, ""]
    if not conflicts:
        shown.append(f"[green]nothing speaks against a release under {escape(release)}[/]")
        return Answer(document, shown, next=f"foretune audit {source}" if Path(source).exists() else "")
    shown += [f"[red]conflict with {escape(release)}:[/]", *warning_lines(told), f"freer data for the same: {freer}"]
    return Answer(document, shown, next="foretune data mix --help", exit_code=GateRefused.exit_code)
