"""`foretune data`: convert, clean, mix and compare data, and hold it against production and benchmarks."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli import tokens
from foretune.cli.data_review import claims, licences, rank
from foretune.cli.data_rows import Source, augment, mix, noisy, shard, subset
from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json, RunsDir, help_without_command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.audit.coverage.record import CoverageRecord
    from foretune.data.formats import ReadData

__all__ = ["app"]

app = typer.Typer(
    help="Convert, clean and compare data, and hold it against production and benchmarks.",
    callback=help_without_command,
    invoke_without_command=True,
)


@app.command()
def convert(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write; its ending says how.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="messages, alpaca, sharegpt, kto, text ...")],
    rejected: Annotated[
        Path | None, typer.Option("--rejected", metavar="FILE", help="Put faulty rows here with reasons, and go on.")
    ] = None,
    keep_better: Annotated[
        bool, typer.Option("--keep-better", help="Of preference data keep the better answers only.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write samples in another form, each row proved by reading it back.

    Forms: messages, prompt_completion, alpaca, sharegpt, vertex, preference,
    openai_dpo, kto, classification, seq2seq, text. The source is never changed.

    \b
    Examples:
      foretune data convert rows.csv rows.jsonl --to messages
      foretune data convert pairs.jsonl kto.jsonl --to kto
    """
    from contextlib import nullcontext

    from foretune.cli.show import facts_table
    from foretune.data.convert import convert as convert_now
    from foretune.data.faults import RejectedRows

    with RejectedRows(rejected) if rejected is not None else nullcontext() as aside:
        written = convert_now(source, target, to=to, rejected=aside, keep_better=keep_better)
    facts = {"written": str(written.path), "form": written.form, "rows": f"{written.num_rows:,}"}
    if rejected is not None:
        facts["put aside"] = f"{written.num_refused:,} rows that the form cannot hold; faults too, in {rejected}"
    document = {
        "command": "data convert",
        "path": str(written.path),
        "form": written.form,
        "num_rows": written.num_rows,
        "num_refused": written.num_refused,
    }
    return Answer(document, [facts_table(facts)], next=f"foretune audit {written.path}")


@app.command()
def contamination(
    source: Source,
    benchmarks: Annotated[
        Path, typer.Option("--benchmarks", metavar="PATH", help="Folder of benchmark files, or an index (.npz).")
    ],
    save_index: Annotated[
        Path | None, typer.Option("--save-index", metavar="FILE", help="Keep the index of the benchmarks.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Find rows that repeat items of benchmarks: 13 words in a row.

    \b
    Examples:
      foretune data contamination rows.jsonl --benchmarks benchmarks/
      foretune data contamination rows.jsonl --benchmarks index.npz
    """
    from rich.markup import escape

    from foretune.data.contamination import build_index, load_index, repeats
    from foretune.data.contamination import save_index as keep_index
    from foretune.data.formats import read_samples
    from foretune.data.inputs import plain_text

    index = load_index(benchmarks) if benchmarks.suffix == ".npz" else build_index(benchmarks)
    if save_index is not None:
        keep_index(index, save_index)
    samples = read_samples(source, task="any").samples
    hits = list(repeats([plain_text(sample) for sample in samples], index))
    rows = [{"place": samples[hit.text].place, "item": hit.item, "words": hit.words} for hit in hits]
    shown = [f"[bold]{len(rows):,}[/] of {len(samples):,} rows repeat an item of {len(index.names):,} benchmark items"]
    shown += [f"  {escape(row['place'])}  [dim]{escape(row['item'])}: {escape(row['words'])}[/]" for row in rows[:20]]
    document = {"command": "data contamination", "num_samples": len(samples), "rows": rows}
    return Answer(document, shown, next=f"foretune audit {source}")


@app.command()
def coverage(
    train: Source,
    production: Annotated[
        Path, typer.Argument(metavar="PRODUCTION", help="What production asks: queries, or a request log.")
    ],
    slices: Annotated[str, typer.Option("--slices", metavar="FIELD", help="Compare by this field too.")] = "",
    embedder: Annotated[str, typer.Option("--embedder", help="auto, tfidf, minilm, a folder or URL#model.")] = "auto",
    tasks: Annotated[
        Path | None, typer.Option("--tasks", metavar="FILE", help="Write what to collect as tasks, one a line.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Find what production asks and training lacks, with the examples needed.

    \b
    Examples:
      foretune data coverage train.jsonl production.jsonl --tasks collect.jsonl
      foretune data coverage train.jsonl production.jsonl --html coverage.html
    """
    from rich.markup import escape

    from foretune.audit.coverage.coverage import coverage as measured
    from foretune.audit.coverage.coverage import field_slicer
    from foretune.audit.coverage.tasks import write_collection_tasks
    from foretune.audit.declared import divergence_of
    from foretune.cli.show import plain_table, warning_lines
    from foretune.collect.production import read_production
    from foretune.data.formats import read_samples

    asked, had = read_production(production), read_samples(train, task="any")
    record = measured(had.samples, asked, slicer=field_slicer(slices) if slices else None, embedder=embedder)
    counts = _coverage_counts(record, had)
    table = plain_table("topic", ">production", ">training", ">needed", "status")
    for topic in (*record.gaps, *(one for one in record.topics if not one.is_gap))[:20]:
        shares = (f"{topic.production_share:.1%}", f"{topic.train_share:.1%}")
        table.add_row(escape(topic.name), *shares, f"{topic.needed:,}" if topic.needed else "", topic.status)
    drift = "production drifts away from training" if record.is_drifting else "no drift beyond chance"
    strange = f"{drift}: {record.num_strange:,} of {record.num_production:,} inputs are strange to it"
    apart = divergence_of(record)
    shown: list[RenderableType] = [
        ", ".join(f"{name}: {escape(value)}" for name, value in counts.items()),
        table,
        strange,
        f"topics lie apart by JS {apart.jensen_shannon:.3f} bits, PSI {apart.psi:.2f} (0.2 is a large shift)",
        f"[dim]embedder: {escape(record.embedder)}[/]",
        *warning_lines(record.warnings),
    ]
    then = f"foretune audit {train}"
    if html is not None:
        from foretune.ui.data_page import write_coverage_page

        shown.append(f"Wrote {write_coverage_page(record, html, train=str(train), production=str(production))}")
    if tasks is not None:
        then = f"annotators: {write_collection_tasks(record, tasks)}"
    document = {
        "command": "data coverage",
        "coverage": record.as_dict(),
        "counts": counts,
        "divergence": apart._asdict(),
    }
    return Answer(document, shown, next=then)


def _coverage_counts(record: CoverageRecord, train: ReadData) -> dict[str, str]:
    """How broad training is: its topics, languages and formats."""
    from collections import Counter

    from foretune.data.languages import language_of

    topics = [topic for topic in record.topics if topic.kind == "cluster"]
    told = Counter(name for sample in train.samples if (name := language_of(sample.input_text, is_sure=True)))
    languages = ", ".join(f"{name} {count:,}" for name, count in told.most_common(5)) or "cannot be told"
    filled = sum(topic.num_train > 0 for topic in topics)
    return {"topics in training": f"{filled} of {len(topics)}", "languages": languages, "formats": train.format}


@app.command()
def clean(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version of a data set, as dataset.json names it.")],
    recipe: Annotated[Path, typer.Option("--recipe", metavar="FILE", help="Steps in order, as TOML.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Run a recipe on a stored version; the result is a new version, the old one stays.

    \b
    Examples:
      foretune data clean 5203fb9b8e7dc927 --recipe clean.toml
    """
    from rich.markup import escape

    from foretune.data.clean.clean import clean as cleaned
    from foretune.data.clean.recipe import read_recipe
    from foretune.data.store import DatasetStore

    record = cleaned(DatasetStore(runs_dir), version, read_recipe(recipe))
    document = {"command": "data clean", "clean": record.as_dict()}
    shown = [f"new version [bold]{record.version}[/] of {', '.join(record.parents)}", escape(record.summary)]
    if html is not None:
        from foretune.ui.data_page import write_clean_page

        shown.append(f"Wrote {write_clean_page(record, html, store=DatasetStore(runs_dir))}")
    return Answer(document, shown, next=f"foretune data diff {version} {record.version}")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Version of a data set.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another version.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Show the rows that were added, removed, changed or moved between two versions.

    \b
    Examples:
      foretune data diff 5203fb9b8e7dc927 73f52f063cc95a5e
    """
    from rich.markup import escape

    from foretune.data.diff import diff_versions
    from foretune.data.store import DatasetStore

    found = diff_versions(DatasetStore(runs_dir), old, new)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items())
    shown = [counts, *(f"  {change.kind}: {escape(change.id)}" for change in found.changes[:20])]
    if html is not None:
        from foretune.ui.data_page import write_diff_page

        shown.append(f"Wrote {write_diff_page(found, html)}")
    changes = [{"kind": change.kind, "id": change.id} for change in found.changes]
    return Answer({"command": "data diff", "counts": found.counts, "changes": changes}, shown)


@app.command()
def recipe(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run whose audit found something, or `latest`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the recipe goes, such as clean.toml.")],
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="ID", help="A finding to mend; without it all but notes.")
    ] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write the recipe that mends what the audit of a run found.

    \b
    Examples:
      foretune data recipe latest --out clean.toml
      foretune data recipe latest --accept DATA010 --accept DATA011 --out clean.toml
    """
    from rich.markup import escape

    from foretune.data.clean.recipe import recipe_from_findings, write_recipe
    from foretune.records.audit import AuditRecord
    from foretune.records.run import find_run

    record = AuditRecord.read(find_run(runs_dir, run))
    path = write_recipe(recipe_from_findings(record.findings, accepted=accept or ()), out)
    document = {"command": "data recipe", "path": str(path), "version": record.dataset_version}
    shown = [escape(path.read_text(encoding="utf-8"))]
    return Answer(document, shown, next=f"foretune data clean {record.dataset_version} --recipe {path}")


app.command("tokens")(tokens.command)
for verb in (augment, mix, subset, noisy, shard, rank, claims, licences):
    app.command()(verb)
