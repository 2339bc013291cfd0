"""`foretune data`: files of samples from one form to another, and lists of benchmark items to look for in them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretune.cli.face import Answer, Debug, Json, help_without_command

__all__ = ["app"]

app = typer.Typer(
    help="Convert files of samples, and look for benchmark items in them.",
    callback=help_without_command,
    invoke_without_command=True,
)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="File or folder of samples.", show_default=False)]


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
