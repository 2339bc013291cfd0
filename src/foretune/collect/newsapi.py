"""Articles from NewsAPI: paged, within the daily quota, resumable, each URL once."""

# SPDX-License-Identifier: Apache-2.0
#
# Protocol: newsapi.org/docs/endpoints/everything and newsapi.org/docs/errors, read 2026-11-21. `content` is cut at 200
# characters by the service on every plan foretune knows of; bodies must come from files of your own. The text of its
# terms was not found: treated as no redistribution, so `share` is link-only.
from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from foretune.collect.articles import Article, ArticleFile, Collection, article_row, is_address
from foretune.collect.sources import SourceCard
from foretune.collect.web import Answer, Clock, Fetcher, RateLimited, parsed_object, plain_words, stamp
from foretune.errors import ConfigError

__all__ = ["KEY_VARIABLE", "NewsQuery", "collect_newsapi"]

NEWSAPI_URL = "https://newsapi.org/v2/everything"
KEY_VARIABLE = "NEWSAPI_KEY"
LICENCE = "NewsAPI terms; articles belong to their publishers"
MAX_PAGE_SIZE = 100
MAX_QUERY_CHARS = 500
FREE_REQUESTS_PER_DAY = 100  # developer plan; secondary source of 2026-11-20
KEY_CODES = ("apiKeyMissing", "apiKeyInvalid", "apiKeyDisabled")
CUT = re.compile(r"\s*(?:…|\.\.\.)?\s*\[\+(\d{1,9}) chars\]\s*$")
REMOVED = "[Removed]"
SORTS = ("publishedAt", "relevancy", "popularity")


@dataclass(frozen=True, slots=True)
class NewsQuery:
    """What to ask NewsAPI for; `start` and `end` are ISO 8601 dates, "" = as far as the plan goes.

    Without `end` the same query may be run again and again: each run takes what came since the last.
    """

    q: str = ""
    language: str = ""
    domains: str = ""
    sources: str = ""
    start: str = ""
    end: str = ""
    sort_by: str = "publishedAt"
    page_size: int = MAX_PAGE_SIZE

    def check(self) -> None:
        """Raises ConfigError with what is wrong."""
        if not (self.q or self.domains or self.sources):
            raise ConfigError("NewsAPI needs words, domains or sources to look for", fix='give q = "fine-tuning"')
        if len(self.q) > MAX_QUERY_CHARS:
            raise ConfigError(
                f"the query has {len(self.q)} characters, NewsAPI takes {MAX_QUERY_CHARS}", fix="shorten it"
            )
        if not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise ConfigError(f"page_size {self.page_size}: NewsAPI takes 1 to {MAX_PAGE_SIZE}", fix="page_size = 100")
        if self.sort_by not in SORTS:
            raise ConfigError(
                f"sort_by {self.sort_by!r}: expected one of {', '.join(SORTS)}", fix='sort_by = "publishedAt"'
            )
        for name in ("start", "end"):
            _check_date(name, getattr(self, name))

    @property
    def key(self) -> str:
        """The query as one string: what a cursor belongs to."""
        return "newsapi " + json.dumps({name: value for name, value in asdict(self).items() if value}, sort_keys=True)


def _check_date(name: str, value: str) -> None:
    try:
        datetime.fromisoformat(value) if value else None
    except ValueError:
        raise ConfigError(f"{name} = {value!r} is no date", fix=f'{name} = "2026-11-01"') from None


def collect_newsapi(
    query: NewsQuery,
    folder: str | Path,
    *,
    name: str = "newsapi",
    api_key: str = "",
    url: str = NEWSAPI_URL,
    max_requests_per_day: int = FREE_REQUESTS_PER_DAY,
    clock: Clock | None = None,
) -> Collection:
    """Append the articles of a query to `folder/NAME.jsonl`; the key comes from NEWSAPI_KEY unless given.

    A run that was killed, or that the quota stopped (`finished` is False), goes on when it is run again. Raises
    ConfigError (key, query), ServeError (the service), DataError (a file of another query), MissingDependency.
    """
    query.check()
    key = api_key or os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise ConfigError("no NewsAPI key", fix=f"export {KEY_VARIABLE}=...   # from newsapi.org/account")
    with (
        Fetcher("NewsAPI", clock=clock) as web,
        ArticleFile(folder, name, query.key, lambda: _card(query, url, web.clock.now())) as file,
    ):
        run = _Run(query, file, web, key, url, max_requests_per_day)
        finished = run.all_pages()
    counts = (file.num_new, file.num_total, file.num_repeated, run.num_skipped, web.num_requests)
    return Collection(file.path, *counts, finished, tuple(dict.fromkeys(run.notes)))


def _card(query: NewsQuery, url: str, moment: datetime) -> SourceCard:
    return SourceCard(
        kind="newsapi",
        name=f"NewsAPI: {query.q or query.domains or query.sources}",
        url=url,
        licence=LICENCE,
        share="link-only",
        retrieved_at=stamp(moment),
        note="titles and descriptions only: the service cuts content at 200 characters",
    )


class _Run:
    """One run of a query: pages from where the cursor stands until the last, or until the quota is used."""

    def __init__(
        self, query: NewsQuery, file: ArticleFile, web: Fetcher, key: str, url: str, max_requests_per_day: int
    ) -> None:
        self.query, self.file, self.web, self.url = query, file, web, url
        self._headers = {"X-Api-Key": key}
        self._quota = max_requests_per_day
        self.num_skipped = 0
        self.notes: list[str] = []

    def all_pages(self) -> bool:
        """Fetch them; False where the quota ended it."""
        if not self._begin():
            self.notes.append("nothing to do: this query has an end and was collected already")
            return True
        while not self.file.cursor["done"]:
            if not self._has_quota():
                self.notes.append(f"today's {self._quota} requests are used; run it again tomorrow (UTC)")
                return False
            try:
                answer = self.web.get(self.url, self._params(), self._headers, _judge)
            except RateLimited as error:
                self._count_request()
                self.notes.append(f"{error.what}; {error.fix}")
                return False
            self._count_request()
            if not self._take(parsed_object(answer.text) or {}):
                return False
        return True

    def _begin(self) -> bool:
        """Set the cursor: a window that stays the same over all pages, else new articles would shift the pages."""
        cursor, now = self.file.cursor, stamp(self.web.clock.now())
        if not cursor:
            self.file.move(start=self.query.start, end=self.query.end or now, page=1, done=False, day="", num_today=0)
        elif cursor["done"] and self.query.end:
            return False
        elif cursor["done"]:
            self.file.move(start=cursor["end"], end=now, page=1, done=False)
        return True

    def _has_quota(self) -> bool:
        cursor = self.file.cursor
        return self._quota <= 0 or cursor["day"] != self._today() or cursor["num_today"] < self._quota

    def _today(self) -> str:
        return stamp(self.web.clock.now())[:10]

    def _count_request(self) -> None:
        before = self.file.cursor["num_today"] if self.file.cursor["day"] == self._today() else 0
        self.file.move(day=self._today(), num_today=before + 1)

    def _params(self) -> dict[str, str]:
        query, cursor = self.query, self.file.cursor
        params = {
            "q": query.q,
            "language": query.language,
            "domains": query.domains,
            "sources": query.sources,
            "from": cursor["start"].removesuffix("Z"),
            "to": cursor["end"].removesuffix("Z"),
            "sortBy": query.sort_by,
            "pageSize": str(query.page_size),
            "page": str(cursor["page"]),
        }
        return {name: value for name, value in params.items() if value}

    def _take(self, body: Mapping[str, Any]) -> bool:
        """Keep one page and move on; False where the account gives no more today."""
        code = body.get("code")
        if code == "apiKeyExhausted":
            self.notes.append(f"NewsAPI: {body.get('message') or 'no more requests today'}; run it again tomorrow")
            return False
        if code == "maximumResultsReached":
            self.notes.append(f"NewsAPI gives no more of this query on your plan: {body.get('message', '')}")
            self.file.move(done=True)
            return True
        articles = body["articles"]
        self.file.append(self._rows(articles))
        page = self.file.cursor["page"]
        total = body.get("totalResults")
        last = not articles or (isinstance(total, int) and page * self.query.page_size >= total)
        self.file.move(page=page + 1, done=last)
        return True

    def _rows(self, articles: list[Any]) -> Iterator[dict[str, Any]]:
        for raw in articles:
            article = _article(raw, self.query.language)
            if article is None:
                self.num_skipped += 1
                continue
            moment = stamp(self.web.clock.now())
            yield article_row(
                article, service="NewsAPI", licence=LICENCE, share="link-only", retrieved_at=moment, raw=raw
            )


def _judge(answer: Answer) -> str:
    """Why to ask again, or ""; the user's own mistakes are raised."""
    if answer.is_html:
        return f"it sent a page instead of data (status {answer.status}: {plain_words(answer.text, 80)!r})"
    body = parsed_object(answer.text)
    if body is None:
        return f"the answer is no whole JSON (status {answer.status}, {len(answer.text)} characters)"
    code, message = str(body.get("code", "")), str(body.get("message", ""))[:300]
    if body.get("status") == "ok" and isinstance(body.get("articles"), list):
        return ""
    if code in ("apiKeyExhausted", "maximumResultsReached"):
        return ""
    if code in KEY_CODES or (answer.status == 401 and not code):
        raise ConfigError(f"NewsAPI does not take the key: {message}", fix=f"export {KEY_VARIABLE}=...   # a valid key")
    if code == "rateLimited" or answer.status == 429:
        return f"rate limit: {message}"
    if answer.status >= 500 or code == "unexpectedError" or body.get("status") == "ok":
        return f"status {answer.status} {message}".strip()
    raise ConfigError(
        f"NewsAPI refuses the query ({code or answer.status}): {message}", fix="change the query or its dates"
    )


def _article(raw: Any, language: str) -> Article | None:
    """An article of the service's answer; None for one that was taken down or has no address."""
    if not isinstance(raw, dict):
        return None
    url, title = _text(raw.get("url")), _text(raw.get("title"))
    if not is_address(url) or title == REMOVED or not title:
        return None
    content = _text(raw.get("content"))
    cut = CUT.search(content)
    source = raw.get("source")
    return Article(
        url=url,
        title=title,
        description=_text(raw.get("description")),
        content=CUT.sub("", content),
        published_at=_text(raw.get("publishedAt")),
        source_name=_text(source.get("name")) if isinstance(source, dict) else "",
        language=language,
        num_cut_chars=int(cut.group(1)) if cut else 0,
    )


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
