"""`foretune collect tasks`, `agreement`, `answers` and `request`: rows that people write, choose and correct."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretune.cli.face import Answer, Debug, Json
from foretune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from foretune.collect.agreement import Agreement
    from foretune.collect.answers import Answers
    from foretune.collect.settle import Settled
    from foretune.collect.tasks import Task

__all__ = ["agreement", "answers", "request", "tasks"]

KINDS = ("label", "rating", "answer", "comparison")
LEVELS = ("nominal", "ordinal", "interval")
SHOWN_ITEMS = 10
Work = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that the tasks were written into.")]
Files = Annotated[
    list[Path] | None, typer.Argument(metavar="ANSWERS", help="Files that came back; all to-NAME files if none.")
]


def tasks(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Rows to work on, or answers to compare.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files for annotators go.")],
    guidelines: Annotated[
        Path, typer.Option("--guidelines", metavar="FILE", help="Instructions; each text is a version.")
    ],
    annotators: Annotated[str, typer.Option("--annotators", metavar="NAMES", help="Who works, such as ann,bob.")],
    kind: Annotated[str, typer.Option("--kind", help="label, rating, answer or comparison.")] = "label",
    labels: Annotated[str, typer.Option("--labels", help="Choices, such as refund,return; ratings in order.")] = "",
    question: Annotated[str, typer.Option("--question", help="What is asked, if not the usual question.")] = "",
    gold: Annotated[
        Path | None, typer.Option("--gold", metavar="FILE", help="Known answers: rows with id and label.")
    ] = None,
    per_task: Annotated[int, typer.Option("--per-task", min=0, help="Annotators a task; 0 = all.")] = 2,
    usd_per_answer: Annotated[float, typer.Option("--usd-per-answer", min=0.0, help="Price of one answer.")] = 0.0,
    form: Annotated[str, typer.Option("--form", help="csv or jsonl.")] = "csv",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the order of tasks.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Write tasks for annotators: a file for each, gold items hidden among the others.

    For `comparison` the rows hold an input and one field for each variant's answer.

    \b
    Examples:
      foretune collect tasks rows.jsonl work --guidelines how-to.md \\
        --annotators ann,bob --labels refund,return,other
      foretune collect tasks news.jsonl work --guidelines style.md \\
        --annotators ann --kind answer
    """
    from foretune.cli.show import facts_table
    from foretune.collect.annotation import export_tasks
    from foretune.collect.guidelines import register_guidelines
    from foretune.collect.task_rows import tasks_of_file

    _one_of("--kind", kind, KINDS)
    _one_of("--form", form, ("csv", "jsonl"))
    names, choices = _listed(annotators), _listed(labels)
    version = register_guidelines(guidelines, folder)
    made = tasks_of_file(source, version, kind=kind, labels=choices, question=question, gold=gold, seed=seed)
    export = export_tasks(
        made,
        folder,
        names,
        form="csv" if form == "csv" else "jsonl",
        per_task=min(per_task, len(names)),
        usd_per_answer=usd_per_answer,
        seed=seed,
    )
    facts = {
        "tasks": f"{export.num_tasks:,}, {export.num_gold:,} of them with a known answer",
        "guidelines": version.version,
        **{f"for {name}": str(path) for name, path in export.files.items()},
        "cost": export.cost,
    }
    document: dict[str, Any] = {
        "command": "collect tasks",
        **export._asdict(),
        "guideline": version.version,
        "files": {name: str(path) for name, path in export.files.items()},
    }
    return Answer(document, [facts_table(facts)], next=f"foretune collect agreement {folder}")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{option} {value}: expected one of {', '.join(known)}", fix=f"{option} {known[0]}")


def agreement(
    folder: Work,
    files: Files = None,
    level: Annotated[str, typer.Option("--level", help="nominal, ordinal or interval.")] = "nominal",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Say how far annotators agree, who is right on gold items, and what they confuse.

    Krippendorff's alpha with its 95 % interval, Cohen's kappa of each pair; for
    comparisons also the strength of each variant.

    \b
    Examples:
      foretune collect agreement work
      foretune collect agreement work to-ann.csv to-bob.csv --level ordinal
    """
    from foretune.cli.show import warning_lines
    from foretune.collect.agreement import agreement as measured
    from foretune.collect.settle import comparisons_of, gold_scores

    _one_of("--level", level, LEVELS)
    known, given = _read(folder, files)
    scale = known[0].choices if known and level == "ordinal" else ()
    found = measured(given.votes, level=level, order=scale)  # type: ignore[arg-type]
    scores = gold_scores(given, known)
    pairs = comparisons_of(given, known)
    shown = [*_agreement_shown(found), *_gold_shown(scores)]
    document: dict[str, Any] = {
        "command": "collect agreement",
        "agreement": {**found._asdict(), "kappas": {" & ".join(pair): k for pair, k in found.kappas.items()}},
        "verdict": found.verdict,
        "gold": {name: score._asdict() for name, score in scores.items()},
        "num_open": given.num_open,
        "faults": [str(fault) for fault in given.faults],
    }
    if pairs:
        from foretune.collect.comparisons import bradley_terry, first_shown_share

        strengths = bradley_terry(pairs)
        shown.append(_strengths_table(strengths))
        shown.append(f"the answer shown first won {first_shown_share(pairs):.0%} of the comparisons")
        document["strengths"] = [strength._asdict() for strength in strengths]
    shown += warning_lines(_told(given))
    return Answer(document, shown, next=f"foretune collect answers {folder} labelled.jsonl")


def _read(folder: Path, files: Sequence[Path] | None) -> tuple[list[Task], Answers]:
    from foretune.collect.annotation import read_tasks
    from foretune.collect.answers import import_answers

    known = read_tasks(folder)
    came_back = list(files or sorted(path for path in folder.glob("to-*") if path.suffix in (".csv", ".jsonl")))
    if not came_back:
        raise ConfigError(f"no answers in {folder}", fix=f"foretune collect agreement {folder} ANSWERS.csv")
    return known, import_answers(came_back, known)


def _told(given: Answers) -> list[str]:
    """What is wrong with the answers, in a few lines."""
    told = [str(fault) for fault in given.faults[:5]]
    if len(given.faults) > 5:
        told.append(f"... and {len(given.faults) - 5:,} more answers that cannot be used")
    if given.num_open:
        told.append(f"{given.num_open:,} tasks were left open")
    if given.num_outdated:
        told.append(f"{given.num_outdated:,} answers stand under older guidelines")
    return told


def _agreement_shown(found: Agreement) -> list[RenderableType]:
    from rich.markup import escape

    from foretune.cli.show import plain_table

    interval = f" (95 % interval {found.low:.2f} to {found.high:.2f})" if found.low is not None else ""
    shown: list[RenderableType] = [f"[bold]{escape(found.verdict)}[/]{interval}"]
    shown.append(f"{found.num_answers:,} answers to {found.num_items:,} tasks, {found.percent:.0%} of pairs are equal")
    table = plain_table("annotators", ">kappa")
    for pair, kappa in found.kappas.items():
        table.add_row(escape(" & ".join(pair)), "–" if kappa is None else f"{kappa:.2f}")
    shown.append(table)
    for value, alpha in found.by_value.items():
        shown.append(f"  {escape(value)}: alpha {'–' if alpha is None else f'{alpha:.2f}'}")
    shown += [f"  confused {count} times: {escape(a)} and {escape(b)}" for a, b, count in found.confused]
    return shown


def _gold_shown(scores: dict[str, Any]) -> list[RenderableType]:
    from rich.markup import escape

    return [
        f"{escape(name)}: {score.num_right} of {score.num_gold} gold items right (surely over {score.low:.0%})"
        for name, score in scores.items()
    ]


def _strengths_table(strengths: Sequence[Any]) -> RenderableType:
    from rich.markup import escape

    from foretune.cli.show import plain_table

    table = plain_table("variant", ">strength", ">won", ">comparisons")
    for one in strengths:
        strength = f"{one.strength:+.2f} ({one.low:+.2f} to {one.high:+.2f})"
        table.add_row(escape(one.name), strength, f"{one.win_rate:.0%}", f"{one.num_comparisons:,}")
    return table


def answers(
    folder: Work,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File of samples to write, such as data.jsonl.")],
    files: Files = None,
    min_share: Annotated[float, typer.Option("--min-share", help="Share of votes that settles a task.")] = 0.67,
    min_answers: Annotated[int, typer.Option("--min-answers", min=1, help="Answers that a task needs.")] = 2,
    min_gold: Annotated[
        float, typer.Option("--min-gold", help="Leave out who gets fewer gold items right, such as 0.7.")
    ] = 0.0,
    decided: Annotated[
        Path | None, typer.Option("--decided", metavar="FILE", help="An adjudicator's answers to disputed tasks.")
    ] = None,
    disputed: Annotated[
        Path | None, typer.Option("--disputed", metavar="FOLDER", help="Write disputed tasks for an adjudicator.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of what annotators wrote.")] = "own",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Turn what annotators sent back into samples: settled labels, approved texts, preferences.

    Tasks on which people disagree are left out and listed; each sample carries
    its agreement and the version of the guidelines.

    \b
    Examples:
      foretune collect answers work data/labelled.jsonl
      foretune collect answers work data.jsonl --min-share 0.8 --disputed work/disputed
    """
    from foretune.cli.show import facts_table, warning_lines
    from foretune.collect.answers import import_answers
    from foretune.collect.logs import write_samples
    from foretune.collect.settle import adjudicated, annotated_samples, gold_scores, preference_samples, settle
    from foretune.collect.sources import SourceCard
    from foretune.collect.web import stamp

    known, given = _read(folder, files)
    poor = [who for who, score in gold_scores(given, known).items() if score.num_right < min_gold * score.num_gold]
    settled = settle(given, known, min_share=min_share, min_answers=min_answers, leave_out=poor)
    if decided is not None:
        settled = adjudicated(settled, import_answers([decided], known))
    moment = stamp(datetime.now(UTC))
    if known[0].kind == "comparison":
        samples = preference_samples(settled, known, retrieved_at=moment)
    else:
        chosen = given if known[0].kind == "answer" else settled
        samples = annotated_samples(chosen, known, retrieved_at=moment, licence=licence)
    share = "internal"
    write_samples(samples, target, SourceCard(kind="annotation", name=f"annotation: {folder.name}", licence=licence))
    facts = {"written": str(target), "samples": f"{len(samples):,}", **_settled_facts(known, settled, poor)}
    unsure = _unsure(settled, min_share)
    document = {
        "command": "collect answers",
        "path": str(target),
        "num_samples": len(samples),
        "num_disputed": len(settled.disputes),
        "num_too_few": settled.num_too_few,
        "left_out_annotators": poor,
        "low_confidence": unsure,
        "share": share,
        "faults": [str(fault) for fault in given.faults],
    }
    shown: list[RenderableType] = [facts_table(facts), *_unsure_lines(unsure), *warning_lines(_told(given))]
    then = f"foretune audit {target}"
    if disputed is not None and settled.disputes:
        then = f"foretune collect answers {folder} {target} --decided {_write_disputed(settled, known, disputed)}"
    return Answer(document, shown, next=then)


def _settled_facts(known: Sequence[Task], settled: Settled, poor: Sequence[str]) -> dict[str, str]:
    facts = {}
    if known[0].kind != "answer":
        facts["disputed"] = f"{len(settled.disputes):,} tasks left out: people disagree"
        facts["too few answers"] = f"{settled.num_too_few:,} tasks left out"
    if poor:
        facts["not counted"] = f"{', '.join(poor)}: too many gold items wrong"
    return facts


def _unsure(settled: Settled, min_share: float) -> list[dict[str, Any]]:
    """Tasks without a sure answer, the least sure first: disputed ones, then those that a bare majority settled."""
    listed = []
    for dispute in settled.disputes:
        most = Counter(dispute.votes.values()).most_common(1)[0][1]
        listed.append({"id": dispute.task_id, "share": round(most / len(dispute.votes), 3), "votes": dispute.votes})
    bare = [(name, share) for name, share in settled.shares.items() if share < 1.0]
    listed += [{"id": name, "share": round(share, 3), "votes": {}} for name, share in bare]
    return sorted(listed, key=lambda item: (item["share"], item["id"]))


def _unsure_lines(unsure: Sequence[dict[str, Any]]) -> list[str]:
    from rich.markup import escape

    lines = [f"low confidence: {len(unsure):,} tasks"] if unsure else []
    for item in unsure[:SHOWN_ITEMS]:
        votes = ", ".join(f"{who}: {value}" for who, value in item["votes"].items())
        lines.append(f"  {escape(item['id'])}  {item['share']:.0%} agree  [dim]{escape(votes)}[/]")
    return lines


def _write_disputed(settled: Settled, known: Sequence[Task], folder: Path) -> Path:
    from foretune.collect.annotation import export_tasks
    from foretune.collect.settle import adjudication_tasks

    export = export_tasks(adjudication_tasks(settled, known), folder, ["adjudicator"])
    return export.files["adjudicator"]


def request(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Log of requests.")],
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The .jsonl file that it is added to.")],
    answer: Annotated[str, typer.Option("--answer", help="The right answer, in place of the logged one.")] = "",
    pii: Annotated[str, typer.Option("--pii", help="keep, redact or drop what holds personal data.")] = "redact",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Add one logged request to a data set, with its correction or with your answer.

    \b
    Examples:
      foretune collect request requests.jsonl r1 data/train.jsonl
      foretune collect request requests.jsonl r1 data/train.jsonl --answer "We open at nine."
    """
    from foretune.audit.pii_patterns import redacted
    from foretune.cli.show import facts_table
    from foretune.collect.logs import add_sample, log_policy, logged_sample

    policy = log_policy(pii, "all")
    sample = logged_sample(log, name, answer=answer, pii=policy.pii, redact=lambda text: redacted(text).text)
    num_rows = add_sample(sample, dataset)
    facts = {"added to": str(dataset), "rows now": f"{num_rows:,}", "input": sample.input_text, "answer": sample.target}
    document = {"command": "collect request", "path": str(dataset), "num_rows": num_rows, "sample": sample.to_json()}
    return Answer(document, [facts_table(facts)], next=f"foretune audit {dataset}")
