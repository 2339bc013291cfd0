"""`foretune collect`: data from the hub, news services, production logs and people, each row with source and time."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretune.cli.collect_people import agreement, answers, request, tasks
from foretune.cli.face import Answer, Debug, Json, help_without_command
from foretune.cli.teacher import teacher

if TYPE_CHECKING:
    from foretune.collect.articles import Collection

__all__ = ["app"]

app = typer.Typer(
    help="Data from the hub, news services, production logs and people, with source and licence.",
    callback=help_without_command,
    invoke_without_command=True,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the file goes; runs append to it.")]
Start = Annotated[str, typer.Option("--start", metavar="DATE", help="From this date, such as 2026-11-01.")]
End = Annotated[str, typer.Option("--end", metavar="DATE", help="Until this date; without it until now.")]
Url = Annotated[str, typer.Option("--url", help="Another address that speaks the same protocol.")]


@app.command()
def hub(
    name: Annotated[str, typer.Argument(metavar="NAME", help="owner/name, owner/name:config@revision.")],
    folder: Folder,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Fetch a data set of the Hugging Face hub, with the licence of its card.

    A job can name it as well: data.path = "hf:owner/name".

    \b
    Examples:
      foretune collect hub rajpurkar/squad_v2 data
    """
    from foretune.cli.show import facts_table, warning_lines
    from foretune.collect.hub import collect_hub

    data = collect_hub(name.removeprefix("hf:"), folder)
    facts = {
        "folder": str(data.folder),
        "revision": data.revision,
        "licence": data.licence or "not stated",
        "files": f"{sum(map(len, data.splits.values())):,} in {', '.join(data.splits)}",
    }
    document = {"command": "collect hub", **facts, "notes": list(data.notes)}
    return Answer(document, [facts_table(facts), *warning_lines(data.notes)], next=f"foretune audit {data.folder}")


@app.command()
def newsapi(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words to look for.")],
    folder: Folder,
    language: Annotated[str, typer.Option("--language", help="Two letters, such as en.")] = "",
    start: Start = "",
    end: End = "",
    url: Url = "",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Append articles of NewsAPI; the key comes from NEWSAPI_KEY.

    Content is cut at 200 characters by the service. A run that the quota
    stopped goes on when it is run again.

    \b
    Examples:
      foretune collect newsapi "fine-tuning" data/news --language en
    """
    from foretune.collect.newsapi import NEWSAPI_URL, NewsQuery, collect_newsapi

    asked = NewsQuery(q=query, language=language, start=start, end=end)
    return _articles("newsapi", collect_newsapi(asked, folder, url=url or NEWSAPI_URL))


@app.command()
def gdelt(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="In GDELT's words.")],
    folder: Folder,
    start: Start = "",
    end: End = "",
    max_requests: Annotated[int, typer.Option("--max-requests", min=0, help="Stop after so many; 0 = no limit.")] = 0,
    url: Url = "",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Append links and titles of GDELT DOC 2.0, one request every 5.5 seconds.

    \b
    Examples:
      foretune collect gdelt "climate sourcelang:english" data/news
    """
    from foretune.collect.gdelt import GDELT_URL, GdeltQuery, collect_gdelt

    asked = GdeltQuery(query, start=start, end=end)
    return _articles("gdelt", collect_gdelt(asked, folder, url=url or GDELT_URL, max_requests=max_requests))


@app.command()
def log(
    source: Annotated[Path, typer.Argument(metavar="LOG", help="Requests: OpenAI style, Langfuse, or our gateway's.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File of samples to write, such as log.jsonl.")],
    pii: Annotated[str, typer.Option("--pii", help="keep, redact or drop what holds personal data.")] = "redact",
    choice: Annotated[str, typer.Option("--choice", help="all, liked or corrected answers.")] = "all",
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Turn a log of production requests into samples.

    Failed, empty and cut-off answers are left out and counted; a correction
    takes the place of the answer.

    \b
    Examples:
      foretune collect log requests.jsonl data/log.jsonl
      foretune collect log langfuse.json data/log.jsonl --choice liked
    """
    from foretune.audit.pii_patterns import redacted
    from foretune.cli.show import facts_table, warning_lines
    from foretune.collect.logs import log_policy, read_log, write_log

    policy = log_policy(pii, choice)
    data = read_log(source, pii=policy.pii, redact=lambda text: redacted(text).text, choice=policy.choice)
    path = write_log(data, target, source)
    left_out = {f"left out: {why}": f"{count:,}" for why, count in data.left_out.items()}
    facts = {"written": str(path), "samples": f"{len(data.samples):,}", "queries": f"{len(data.queries):,}", **left_out}
    document = {
        "command": "collect log",
        "path": str(path),
        "num_samples": len(data.samples),
        "num_queries": len(data.queries),
        "left_out": data.left_out,
        "faults": [str(fault) for fault in data.faults],
    }
    faults = [f"{len(data.faults):,} rows cannot be read, the first: {data.faults[0]}"] if data.faults else []
    return Answer(document, [facts_table(facts), *warning_lines(faults)], next=f"foretune audit {path}")


def _articles(service: str, found: Collection) -> Answer:
    from foretune.cli.show import facts_table, warning_lines

    facts = {
        "file": str(found.path),
        "new": f"{found.num_new:,}",
        "in all": f"{found.num_total:,}",
        "requests": f"{found.num_requests:,}",
        "finished": "yes" if found.finished else "no: run it again to go on",
    }
    document = {"command": f"collect {service}", **found._asdict(), "path": str(found.path)}
    return Answer(document, [facts_table(facts), *warning_lines(found.notes)], next=f"foretune audit {found.path}")


for verb in (teacher, tasks, agreement, answers, request):
    app.command()(verb)
