"""`foretune data augment`, `mix`, `subset` and `noisy`: more rows, general rows, fewer rows, mistyped rows."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import DEFAULT_RUNS, Answer, Debug, Json
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from foretune.collect.sources import SourceCard
    from foretune.data.augment import Rephrase
    from foretune.data.formats import ReadData
    from foretune.data.samples import Sample

__all__ = ["Seed", "Source", "Target", "augment", "mix", "noisy", "read_file", "shard", "subset", "write_file"]

Source = Annotated[Path, typer.Argument(metavar="FILE", help="File or folder of samples.", show_default=False)]
Target = Annotated[
    Path, typer.Argument(metavar="TARGET", help="File to write, such as more.jsonl.", show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random choice.")]
ORDERS = ("random", "class", "slice", "quality", "diverse")


def read_file(path: Path) -> ReadData:
    """The samples of a file or folder, whatever their form."""
    from foretune.data.formats import read_samples

    return read_samples(path, task="any")


def write_file(samples: Iterable[Sample], target: Path, card: SourceCard) -> int:
    """Write samples in the form that holds them, with their source card; how many."""
    from foretune.collect.sources import write_card
    from foretune.data.convert import write_samples

    listed = list(samples)
    first = listed[0] if listed else None
    form = "messages"
    if first is not None and first.is_text:
        form = "text"
    elif first is not None and first.rejected:
        form = "preference"
    written = write_samples(listed, target, form=form)
    write_card(target, card)
    return written.num_rows


def _card(parts: Sequence[ReadData], note: str) -> SourceCard:
    from foretune.collect.sources import derived_card

    return derived_card([source.path for part in parts for source in part.sources], note)


def augment(
    source: Source,
    target: Target,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="rephrase, typos, casual, abbreviations, lower ...")
    ] = None,
    share: Annotated[float, typer.Option("--share", help="New rows as a share of the old ones.")] = 0.2,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="Rephrase by URL#MODEL or by a run; else by rules.")
    ] = "",
    only_new: Annotated[bool, typer.Option("--only-new", help="Write the new rows alone.")] = False,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Make more rows: inputs in other words, mistyped or reformatted; answers stay.

    Each new row says in `augmented` how it was made, and of which row.

    \b
    Examples:
      foretune data augment train.jsonl more.jsonl
      foretune data augment train.jsonl more.jsonl --kind typos --kind casual
    """
    from collections import Counter

    from foretune.cli.show import facts_table, warning_lines
    from foretune.data.augment import USUAL_KINDS, augmented

    data = read_file(source)
    rephrase = _rephrase(model) if model else None
    new = augmented(
        data.samples, kinds=kinds or USUAL_KINDS, share=share, rephrase=rephrase, model_name=model, seed=seed
    )
    how = Counter(str(row.meta["augmented"]["how"][0]) for row in new)
    rows = new if only_new else [*data.samples, *new]
    num_rows = write_file(rows, target, _card([data], f"augmented from {source.name}"))
    facts = {"written": str(target), "rows": f"{num_rows:,}", "new": f"{len(new):,}"}
    facts |= {f"new by {name}": f"{count:,}" for name, count in how.items()}
    document: dict[str, Any] = {
        "command": "data augment",
        "path": str(target),
        "num_rows": num_rows,
        "num_new": len(new),
    }
    document |= {"how": dict(how)}
    return Answer(document, [facts_table(facts), *warning_lines(data.warnings)], next=f"foretune audit {target}")


def _rephrase(model: str) -> Rephrase:
    """The model of an endpoint, or what a run made."""
    from foretune.data.rephrase import careful, endpoint_rephrase

    if model.startswith(("http://", "https://")):
        return endpoint_rephrase(model)
    from foretune import api
    from foretune.data.samples import Message

    talk = api.chat(model)
    return careful(lambda prompt: talk.reply([Message("user", prompt)]))


def mix(
    source: Source,
    general: Annotated[str, typer.Argument(metavar="GENERAL", help="General data: a file, a folder or hf:owner/name.")],
    target: Target,
    fraction: Annotated[float, typer.Option("--fraction", help="Share of general rows in the result.")] = 0.15,
    use: Annotated[str, typer.Option("--use", help="commercial or research: what the model is for.")] = "commercial",
    accept_licences: Annotated[
        bool, typer.Option("--accept-licences", help="Mix although a licence speaks against it.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Mix general rows among your own against forgetting: 10 to 20 %, licences checked.

    Every mixed row carries its source and licence.

    \b
    Examples:
      foretune data mix train.jsonl general.jsonl mixed.jsonl
      foretune data mix train.jsonl hf:OpenAssistant/oasst1 mixed.jsonl --fraction 0.1
    """
    from foretune.cli.show import facts_table, warning_lines
    from foretune.collect.collect import SOURCES_DIR, local_path, sources_of
    from foretune.data.mix import mixed
    from foretune.data.provenance import provenance_of, with_provenance

    if use not in ("commercial", "research"):
        raise ConfigError(f"--use {use}: expected commercial or research", fix="--use commercial")
    own = read_file(source)
    other = read_file(local_path(general, Path(), DEFAULT_RUNS / SOURCES_DIR))
    sources = list(sources_of([own], Path()))
    mixture = mixed(
        [with_provenance(row, provenance_of(row, sources)) for row in own.samples],
        other.samples,
        fraction=fraction,
        use="commercial" if use == "commercial" else "research",
        sources=sources_of([other], Path()),
        accept_licences=accept_licences,
        seed=seed,
    )
    card = _card([own, other], f"{source.name} with {mixture.num_general} rows of {general}")
    num_rows = write_file(mixture.samples, target, card)
    facts = {
        "written": str(target),
        "rows": f"{num_rows:,}",
        "general": f"{mixture.num_general:,} rows, {mixture.fraction:.1%}",
        "licences": ", ".join(f"{name} {count:,}" for name, count in mixture.licences.items()),
    }
    document = {
        "command": "data mix",
        "path": str(target),
        "num_rows": num_rows,
        "num_general": mixture.num_general,
        "fraction": mixture.fraction,
        "licences": mixture.licences,
        "warnings": list(mixture.warnings),
    }
    return Answer(document, [facts_table(facts), *warning_lines(mixture.warnings)], next=f"foretune audit {target}")


def subset(
    source: Source,
    target: Target,
    count: Annotated[int, typer.Option("--count", min=0, help="Rows to keep.")] = 0,
    by: Annotated[str, typer.Option("--by", help="random, class, slice, quality or diverse.")] = "random",
    field: Annotated[str, typer.Option("--field", help="Field of the slice, or of the rating.")] = "",
    slices: Annotated[
        list[str] | None, typer.Option("--slice", metavar="NAME=COUNT", help="Rows of one slice; may be repeated.")
    ] = None,
    embedder: Annotated[str, typer.Option("--embedder", help="For diverse: auto, tfidf, minilm ...")] = "auto",
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Choose rows: at random, with the shares of classes or slices, the best, the most unlike.

    \b
    Examples:
      foretune data subset train.jsonl small.jsonl --count 1000
      foretune data subset train.jsonl even.jsonl --field product --slice a=50 --slice b=50
      foretune data subset ranked.jsonl best.jsonl --count 1000 --by quality --field keep
    """
    from foretune.cli.show import facts_table, warning_lines

    data = read_file(source)
    wanted = _slice_counts(slices or ())
    if wanted and not field:
        raise ConfigError("--slice needs --field, the field that names the slice", fix="--field product")
    if bool(wanted) == bool(count):
        raise ConfigError("give either --count or --slice NAME=COUNT", fix="--count 1000")
    kept = _chosen(data.samples, count, by, field, wanted, embedder, seed)
    how = f"by {by}" if not wanted else f"by slices of {field}"
    num_rows = write_file(kept, target, _card([data], f"subset of {source.name} {how}"))
    facts = {"written": str(target), "rows": f"{num_rows:,} of {len(data.samples):,}", "chosen": how}
    document = {"command": "data subset", "path": str(target), "num_rows": num_rows, "of": len(data.samples), "by": by}
    return Answer(document, [facts_table(facts), *warning_lines(data.warnings)], next=f"foretune audit {target}")


def _slice_counts(texts: Sequence[str]) -> dict[str, int]:
    counts = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        if not sign or not number.isdigit() or not name:
            raise ConfigError(f"--slice {text}: expected NAME=COUNT", fix="--slice refunds=200")
        counts[name] = int(number)
    return counts


def _chosen(
    samples: list[Sample], count: int, by: str, field: str, wanted: dict[str, int], embedder: str, seed: int
) -> list[Sample]:
    from foretune.data.subset import best_rated, diverse, random_subset, sliced, stratified, value_at

    def slice_of(sample: Sample) -> str:
        return str(value_at(sample, field))

    if wanted:
        return sliced(samples, wanted, key=slice_of, seed=seed)
    if by == "class":
        return stratified(samples, count, seed=seed)
    if by == "slice" and field:
        return stratified(samples, count, key=slice_of, seed=seed)
    if by == "quality":
        return best_rated(samples, count, rating=field or "rating", seed=seed)
    if by == "diverse":
        from foretune.data.embed.door import open_embedder

        texts = [sample.input_text for sample in samples]
        return diverse(samples, count, open_embedder(embedder, corpus=texts).encode(texts), seed=seed)
    if by != "random":
        what = "--by slice needs --field" if by == "slice" else f"--by {by}: expected {', '.join(ORDERS)}"
        raise ConfigError(what, fix="--by slice --field product" if by == "slice" else "--by random")
    return random_subset(samples, count, seed=seed)


def noisy(
    source: Source,
    target: Target,
    rate: Annotated[float, typer.Option("--rate", help="Share of longer words that are mistyped.")] = 0.1,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="typos, abbreviations, casual.")] = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write the noisy twin of a test set: typing errors, abbreviations, a casual tone.

    Answers, numbers, code and names stay. In a job, `data.advanced.noisy_test = 0.1` scores
    such a twin beside the clean test split.

    \b
    Examples:
      foretune data noisy test.jsonl noisy.jsonl --rate 0.2
    """
    from foretune.cli.show import facts_table
    from foretune.data.noisy import NOISES, noisy_samples

    data = read_file(source)
    twins = noisy_samples(data.samples, seed=seed, rate=rate, kinds=tuple(kinds or NOISES))
    pairs = list(zip(data.samples, twins, strict=True))
    num_changed = sum(old.input_text != new.input_text for old, new in pairs)
    num_rows = write_file(twins, target, _card([data], f"noisy twin of {source.name}"))
    facts = {"written": str(target), "rows": f"{num_rows:,}, {num_changed:,} of them changed"}
    example = next((pair for pair in pairs if pair[0].input_text != pair[1].input_text), None)
    if example is not None:
        facts |= {"before": example[0].input_text[:200], "after": example[1].input_text[:200]}
    document = {"command": "data noisy", "path": str(target), "num_rows": num_rows, "num_changed": num_changed}
    return Answer(document, [facts_table(facts)], next=f"foretune audit {target}")


def shard(
    source: Source,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.", show_default=False)],
    base: Annotated[str, typer.Option("--base", help="Model whose tokenizer is used.")] = "pebble",
    shard_tokens: Annotated[int, typer.Option("--shard-tokens", help="Tokens of one file.")] = 16_777_216,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Tokenise raw text into shards on disk, for pretraining on more than memory holds.

    One pass, a thousand documents at a time. A job reads them with `data.path = "FOLDER"`,
    `data.task = "text"` and `train.method = "pretrain"` (or full, lora): nothing is held in memory.

    \b
    Examples:
      foretune data shard corpus/ tokens/ --base pebble
    """
    from foretune.cli.show import facts_table
    from foretune.data.files import find_files
    from foretune.data.inputs import plain_text
    from foretune.data.stream import stream_samples
    from foretune.data.token_shards import write_shards
    from foretune.data.tokenizer import Tokenizer
    from foretune.models.base import resolve_base

    tokenizer = Tokenizer.from_folder(resolve_base(base, Path.cwd()))
    texts = (plain_text(sample) for sample in stream_samples(source, task="any"))
    names = [file.path.name for file in find_files(source)]
    index = write_shards(texts, tokenizer, folder, sources=names, shard_tokens=shard_tokens)
    facts = {
        "written": f"{folder}: {len(index.shards)} shards, version {index.version}",
        "documents": f"{index.num_documents:,}",
        "tokens": f"{index.num_tokens:,} of {index.vocab_size:,} kinds, {index.token_bytes} bytes each",
    }
    document = {"command": "data shard", "path": str(folder), "version": index.version, "index": index.as_dict()}
    return Answer(document, [facts_table(facts)], next="foretune train job.toml")
