"""Links to articles from GDELT DOC 2.0: windows of time halved until each is whole, one request in five seconds."""

# SPDX-License-Identifier: Apache-2.0
#
# Protocol: blog.gdeltproject.org/gdelt-doc-2-0-api-debuts, read 2026-11-21: mode=artlist, format=json, at most 250
# records and no pages, so a full window is halved. Faults come as text or HTML, often with status 200. The service
# asks for one request every 5 seconds; public clients report refusals at exactly 5.0 (its clock is not ours): 5.5.
# It gives url, title, date, domain, language and country, never a body.
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from foretune.collect.articles import Article, ArticleFile, Collection, article_row, is_address
from foretune.collect.sources import SourceCard
from foretune.collect.web import Answer, Clock, Fetcher, RateLimited, parsed_object, plain_words, stamp
from foretune.errors import ConfigError

__all__ = ["GdeltQuery", "collect_gdelt"]

GDELT_URL = "https://api.gdeltproject.org/api/v2/doc/doc"
LICENCE = "GDELT terms (links and metadata, cite GDELT); articles belong to their publishers"
MAX_RECORDS = 250
MIN_INTERVAL_SECONDS = 5.5
MIN_WINDOW = timedelta(minutes=15)  # GDELT dates articles by its 15-minute updates
WINDOW_DEFAULT = timedelta(days=1)
FORMAT = "%Y%m%d%H%M%S"
RATE_WORDS = ("limit requests", "rate limit", "too many requests")
QUERY_WORDS = (
    "too short",
    "too long",
    "too common",
    "invalid",
    "not valid",
    "must be",
    "not recognized",
    "unknown mode",
)


@dataclass(frozen=True, slots=True)
class GdeltQuery:
    """What to ask GDELT for, in its own words (`"exact phrase" sourcelang:english domain:bbc.co.uk`).

    `start` and `end` are ISO 8601 in UTC. Without `start` the last day; without `end` until now, and the same query
    run again takes what came since.
    """

    query: str
    start: str = ""
    end: str = ""
    max_records: int = MAX_RECORDS

    def check(self) -> None:
        """Raises ConfigError with what is wrong."""
        if len(self.query.strip()) < 3:
            raise ConfigError(f"GDELT query {self.query!r} is too short", fix='query = "climate sourcelang:english"')
        if not 1 <= self.max_records <= MAX_RECORDS:
            raise ConfigError(
                f"max_records {self.max_records}: GDELT gives 1 to {MAX_RECORDS}", fix="max_records = 250"
            )
        start, end = _moment("start", self.start), _moment("end", self.end)
        if start and end and start >= end:
            raise ConfigError(f"start {self.start} is not before end {self.end}", fix="swap them")

    @property
    def key(self) -> str:
        """The query as one string: what a cursor belongs to."""
        return "gdelt " + json.dumps({name: value for name, value in asdict(self).items() if value}, sort_keys=True)


def _moment(name: str, value: str) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError(f"{name} = {value!r} is no date", fix=f'{name} = "2026-11-01T00:00:00"') from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def collect_gdelt(
    query: GdeltQuery,
    folder: str | Path,
    *,
    name: str = "gdelt",
    url: str = GDELT_URL,
    max_requests: int = 0,
    clock: Clock | None = None,
) -> Collection:
    """Append the articles of a query to `folder/NAME.jsonl`; `max_requests` 0 = as many as it takes.

    A run that was killed or limited (`finished` is False) goes on when it is run again. Raises ConfigError (the
    query), ServeError (the service), DataError (a file of another query), MissingDependency.
    """
    query.check()
    with (
        Fetcher("GDELT", clock=clock, min_interval_seconds=MIN_INTERVAL_SECONDS) as web,
        ArticleFile(folder, name, query.key, lambda: _card(query, url, web.clock.now())) as file,
    ):
        run = _Run(query, file, web, url, max_requests)
        finished = run.all_windows()
    counts = (file.num_new, file.num_total, file.num_repeated, run.num_skipped, web.num_requests)
    return Collection(file.path, *counts, finished, tuple(run.notes))


def _card(query: GdeltQuery, url: str, moment: datetime) -> SourceCard:
    return SourceCard(
        kind="gdelt",
        name=f"GDELT: {query.query}",
        url=url,
        licence=LICENCE,
        share="link-only",
        retrieved_at=stamp(moment),
        note="links and titles only: GDELT gives no bodies",
    )


class _Run:
    """One run of a query: windows from the cursor, each halved as long as it comes back full."""

    def __init__(self, query: GdeltQuery, file: ArticleFile, web: Fetcher, url: str, max_requests: int) -> None:
        self.query, self.file, self.web, self.url = query, file, web, url
        self._max_requests = max_requests
        self.num_skipped = 0
        self.notes: list[str] = []

    def all_windows(self) -> bool:
        """Fetch them; False where a limit ended it."""
        if not self._begin():
            self.notes.append("nothing to do: this query has an end and was collected already")
            return True
        while self.file.cursor["pending"]:
            if self._max_requests and self.web.num_requests >= self._max_requests:
                self.notes.append(f"{self._max_requests} requests are used; run it again to go on")
                return False
            start, end = (datetime.strptime(text, FORMAT) for text in self.file.cursor["pending"][0])
            try:
                answer = self.web.get(self.url, self._params(start, end), {}, _judge)
            except RateLimited as error:
                self.notes.append(f"{error.what}; {error.fix}")
                return False
            self._take((parsed_object(answer.text) or {}).get("articles", []), start, end)
        return True

    def _begin(self) -> bool:
        """Set the cursor's windows. False where there is nothing left to do."""
        cursor, now = self.file.cursor, self.web.clock.now()
        if cursor.get("pending"):
            return True
        if cursor and self.query.end:
            return False
        end = _moment("end", self.query.end) or now
        begun = datetime.strptime(cursor["until"], FORMAT).replace(tzinfo=UTC) if cursor else None
        start = begun or _moment("start", self.query.start) or end - WINDOW_DEFAULT
        if start < end:
            self.file.move(pending=[[start.strftime(FORMAT), end.strftime(FORMAT)]], until=end.strftime(FORMAT))
        return bool(self.file.cursor.get("pending"))

    def _params(self, start: datetime, end: datetime) -> dict[str, str]:
        return {
            "query": self.query.query,
            "mode": "artlist",
            "format": "json",
            "maxrecords": str(self.query.max_records),
            "sort": "datedesc",
            "startdatetime": start.strftime(FORMAT),
            "enddatetime": end.strftime(FORMAT),
        }

    def _take(self, articles: list[Any], start: datetime, end: datetime) -> None:
        """Keep one window; a full one is put back as its two halves."""
        self.file.append(self._rows(articles))
        rest = self.file.cursor["pending"][1:]
        if len(articles) >= self.query.max_records:
            if end - start >= 2 * MIN_WINDOW:
                middle = (start + (end - start) / 2).replace(microsecond=0)
                halves = ((start, middle), (middle, end))
                rest = [[a.strftime(FORMAT), b.strftime(FORMAT)] for a, b in halves] + rest
            else:
                told = f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"
                self.notes.append(f"{told} holds more than {self.query.max_records} articles; the rest is out of reach")
        self.file.move(pending=rest)

    def _rows(self, articles: list[Any]) -> Iterator[dict[str, Any]]:
        for raw in articles:
            article = _article(raw)
            if article is None:
                self.num_skipped += 1
                continue
            moment = stamp(self.web.clock.now())
            yield article_row(
                article, service="GDELT", licence=LICENCE, share="link-only", retrieved_at=moment, raw=raw
            )


def _judge(answer: Answer) -> str:
    """Why to ask again, or ""; a query that GDELT does not take is raised in its own words."""
    body = parsed_object(answer.text)
    if body is not None and answer.status == 200:
        return "" if isinstance(body.get("articles", []), list) else "`articles` is no list"
    if answer.status == 200 and not answer.text.strip():
        return "the answer is empty"
    words = plain_words(answer.text)
    lowered = words.lower()
    if answer.status == 429 or any(word in lowered for word in RATE_WORDS):
        return f"rate limit: {words}"
    is_page = answer.text.lstrip()[:200].lower().startswith(("<!doctype", "<html"))
    is_about_query = any(word in lowered for word in QUERY_WORDS) and not is_page
    if answer.status in (200, 400) and is_about_query and not answer.text.lstrip().startswith("{"):
        raise ConfigError(f"GDELT refuses the query: {words}", fix="change the query: longer words, or fewer of them")
    if answer.text.lstrip().startswith("{"):
        return f"the answer is no whole JSON ({len(answer.text)} characters)"
    return f"it sent a page instead of data (status {answer.status}: {words[:80]!r})"


def _article(raw: Any) -> Article | None:
    if not isinstance(raw, dict):
        return None
    url, title = raw.get("url"), raw.get("title")
    if not isinstance(url, str) or not isinstance(title, str) or not is_address(url):
        return None
    seen = raw.get("seendate")
    return Article(
        url=url,
        title=" ".join(title.split()),
        published_at=_iso(seen) if isinstance(seen, str) else "",
        source_name=str(raw.get("domain") or ""),
        language=str(raw.get("language") or ""),
        country=str(raw.get("sourcecountry") or ""),
    )


def _iso(seen: str) -> str:
    """`20230918T031500Z` as ISO 8601; "" where it is no date."""
    try:
        return stamp(datetime.strptime(seen, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
    except ValueError:
        return ""
