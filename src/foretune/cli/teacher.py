"""`foretune collect teacher`: answers of a larger model to your prompts, to train a smaller one on."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli.face import Answer, Debug, Json

if TYPE_CHECKING:
    from foretune.data.samples import Sample

__all__ = ["teacher"]

KEY = "OPENAI_API_KEY"


def teacher(
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="File of samples; their answers are not read.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to append to, such as distilled.jsonl.")],
    url: Annotated[str, typer.Option("--url", help="Server that speaks OpenAI's protocol, ending in /v1.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model there.")],
    system: Annotated[str, typer.Option("--system", help="System message for prompts that have none.")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer.")] = 1024,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the answers, by the provider's terms.")] = "",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Ask a larger model for answers; train on them with method lora.

    The key comes from OPENAI_API_KEY. Each prompt is asked once: a run that
    was stopped goes on when it is run again. Answers that were cut off are
    left out.

    \b
    Examples:
      foretune collect teacher train.jsonl data/distilled.jsonl \\
        --url http://localhost:8000/v1 --model big
    """
    from foretune.cli.show import facts_table, warning_lines
    from foretune.collect.teacher import NOTE, Teacher, ask_teacher
    from foretune.records.dataset import UNKNOWN_LICENCE

    whom = Teacher(
        url,
        model,
        key=os.environ.get(KEY, ""),
        system=system,
        max_tokens=max_tokens,
        licence=licence or UNKNOWN_LICENCE,
    )
    found = ask_teacher(_prompts(prompts), target, whom)
    facts = {
        "file": str(found.path),
        "new": f"{found.num_new:,}",
        "in all": f"{found.num_total:,}",
        "tokens": f"{found.prompt_tokens:,} read, {found.answer_tokens:,} written",
        **{f"left out: {why}": f"{count:,}" for why, count in found.left_out.items()},
    }
    document = {"command": "collect teacher", **found._asdict(), "path": str(found.path)}
    return Answer(document, [facts_table(facts), *warning_lines([NOTE])], next=f"foretune audit {found.path}")


def _prompts(path: Path) -> list[Sample]:
    """Samples, whose answers are not read; else what production is read from: bare queries, request logs."""
    from foretune.collect.production import read_production
    from foretune.data.formats import read_samples
    from foretune.errors import DataError

    try:
        return read_samples(path).samples
    except DataError:
        return read_production(path)
