"""NewsAPI against a local server that speaks its protocol, faults included."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foretune.collect import web as web_module
from foretune.collect.articles import Collection
from foretune.collect.newsapi import NewsQuery, collect_newsapi
from foretune.data.formats import read_samples
from foretune.data.provenance import provenance_of, shareable
from foretune.errors import ConfigError, DataError, MissingDependency, ServeError
from local_web import Answerer, Call, Reply, Web

KEY = "key-0123456789"
QUERY = NewsQuery(q="fine-tuning", language="en", end="2026-11-20", page_size=10)
Serve = Callable[[Answerer], Web]


def article(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "source": {"id": None, "name": "The Daily"},
        "author": "A. Writer",
        "title": f"Title {number}",
        "description": f"What happened in case {number}",
        "url": f"https://www.daily.example/news/{number}?utm_source=feed",
        "publishedAt": "2026-11-20T10:00:00Z",
        "content": "x" * 200 + "… [+1234 chars]",
        **changes,
    }


def error(status: int, code: str, message: str = "said so", **headers: str) -> Reply:
    return Reply({"status": "error", "code": code, "message": message}, status, headers)


class Server:
    """Pages of `articles`; `faults` come first, one a request, and any after page `last_page` is refused."""

    def __init__(self, articles: list[dict[str, Any]], *faults: Reply, max_results: int = 10_000) -> None:
        self.articles = articles
        self.faults = list(faults)
        self.max_results = max_results

    def __call__(self, call: Call) -> Reply:
        if call.headers.get("x-api-key") != KEY:
            return error(401, "apiKeyInvalid", "Your API key is invalid or incorrect.")
        if self.faults:
            return self.faults.pop(0)
        size, page = int(call.params["pageSize"]), int(call.params["page"])
        if page * size > self.max_results:
            return error(426, "maximumResultsReached", f"limited to a max of {self.max_results} results")
        part = self.articles[(page - 1) * size : page * size]
        return Reply({"status": "ok", "totalResults": len(self.articles), "articles": part})


def gathered(web: Web, folder: Path, query: NewsQuery = QUERY, **options: Any) -> Collection:
    return collect_newsapi(query, folder, api_key=KEY, url=f"{web.url}/v2/everything", clock=web.clock, **options)


def rows(collection: Collection) -> list[dict[str, Any]]:
    return [json.loads(line) for line in collection.path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.req("R088")
def test_all_pages_are_fetched_with_the_key_in_its_header(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server([article(number) for number in range(25)]))
    done = gathered(web, tmp_path)
    assert (done.num_new, done.num_total, done.num_requests, done.finished) == (25, 25, 3, True)
    assert [call.params["page"] for call in web.calls] == ["1", "2", "3"]
    assert all(call.headers["x-api-key"] == KEY and KEY not in str(call.params) for call in web.calls)
    first = web.calls[0].params
    assert (first["q"], first["language"], first["to"], first["sortBy"]) == (
        "fine-tuning",
        "en",
        "2026-11-20",
        "publishedAt",
    )
    assert web.calls[0].path == "/v2/everything"


@pytest.mark.req("R102")
@pytest.mark.req("R103")
def test_every_article_carries_its_provenance_and_is_shared_as_a_link_only(serve: Serve, tmp_path: Path) -> None:
    done = gathered(serve(Server([article(1), article(2)])), tmp_path)
    for row in rows(done):
        assert set(row["provenance"]) == {"source", "licence", "retrieved_at", "sha256", "share", "url"}
        assert row["provenance"]["retrieved_at"] == "2026-11-21T12:00:00Z"
        assert row["num_cut_chars"] == 1234 and row["content"] == "x" * 200
    samples = read_samples(done.path, task="text").samples
    assert samples[0].text == "Title 1\n\nWhat happened in case 1"
    assert provenance_of(samples[0]).share == "link-only"
    shared = shareable(samples)
    assert shared.samples == () and [link["url"] for link in shared.links] == [row["url"] for row in rows(done)]
    card = json.loads((tmp_path / "source.newsapi.jsonl.json").read_text())
    assert (card["share"], card["kind"]) == ("link-only", "newsapi") and "200 characters" in card["note"]


@pytest.mark.req("R090")
def test_one_url_is_one_article(serve: Serve, tmp_path: Path) -> None:
    same = [
        "http://daily.example/news/1/",
        "https://www.daily.example/news/1?fbclid=x#top",
        "https://daily.example/news/1",
    ]
    web = serve(Server([article(1), *(article(1, url=url) for url in same), article(2)]))
    done = gathered(web, tmp_path)
    assert (done.num_new, done.num_repeated) == (2, 3)


def test_removed_articles_and_damaged_rows_are_skipped_and_counted(serve: Serve, tmp_path: Path) -> None:
    bad = [article(1, title="[Removed]"), article(2, url=""), article(3, url="javascript:alert(1)"), "text", None]
    done = gathered(serve(Server([*bad, article(4, content=None, description=None, source=None)])), tmp_path)
    assert (done.num_new, done.num_skipped) == (1, 5)


FAULTS = {
    "rate limit": error(429, "rateLimited"),
    "server error": Reply({"status": "error", "code": "unexpectedError", "message": "oops"}, 500),
    "bad gateway page": Reply("<html><body>Bad gateway</body></html>", 502, {"Content-Type": "text/html"}),
    "page with status 200": Reply("<!DOCTYPE html><h1>Sign in</h1>", 200, {"Content-Type": "text/html"}),
    "truncated body": Reply({"status": "ok", "totalResults": 1, "articles": []}, cut=True),
    "half a JSON": Reply('{"status": "ok", "articles": [{"url": "https://'),
    "broken gzip": Reply(b"not gzip", headers={"Content-Encoding": "gzip"}),
    "no articles": Reply({"status": "ok"}),
}


@pytest.mark.req("R088")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_one_line(
    fault: Reply, serve: Serve, tmp_path: Path
) -> None:
    web = serve(Server([article(number) for number in range(3)], fault, fault))
    done = gathered(web, tmp_path / "passing")
    assert (done.num_new, done.num_requests, web.clock.slept) == (3, 3, [2.0, 4.0])
    lasting = serve(Server([article(1)], *[fault] * 20))
    if fault is FAULTS["rate limit"]:
        stopped = gathered(lasting, tmp_path / "lasting")
        assert not stopped.finished and "rate limit" in stopped.notes[0] and "run the same command" in stopped.notes[0]
        return
    with pytest.raises(ServeError, match="NewsAPI does not answer as it should after 5 tries") as caught:
        gathered(lasting, tmp_path / "lasting")
    assert "\n" not in caught.value.what and KEY not in caught.value.what and "again" in caught.value.fix


def test_retry_after_is_heeded_up_to_a_quarter_of_an_hour(serve: Serve, tmp_path: Path) -> None:
    soon = error(429, "rateLimited", **{"Retry-After": "60"})
    dated = error(503, "unexpectedError", **{"Retry-After": "Sat, 21 Nov 2026 12:05:00 GMT"})
    web = serve(Server([article(1)], soon, dated))
    gathered(web, tmp_path / "soon")
    assert [call.at for call in web.calls] == [0.0, 60.0, 300.0]
    late = serve(Server([article(1)], error(429, "rateLimited", **{"Retry-After": "86400"})))
    done = gathered(late, tmp_path / "late")
    assert not done.finished and "asks to wait 86400 s" in done.notes[0] and len(late.calls) == 1


@pytest.mark.req("R088")
def test_the_daily_quota_stops_a_run_and_the_next_day_goes_on(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server([article(number) for number in range(45)]))
    first = gathered(web, tmp_path, max_requests_per_day=2)
    assert (first.num_new, first.finished) == (20, False) and "today's 2 requests are used" in first.notes[0]
    assert gathered(web, tmp_path, max_requests_per_day=2).num_requests == 0
    web.clock.sleep(24 * 3600)
    second = gathered(web, tmp_path, max_requests_per_day=2)
    web.clock.sleep(24 * 3600)
    third = gathered(web, tmp_path, max_requests_per_day=2)
    assert [second.num_new, third.num_new, third.num_total, third.finished] == [20, 5, 45, True]
    assert [call.params["page"] for call in web.calls] == ["1", "2", "3", "4", "5"]


def test_what_the_account_gives_no_more_is_told(serve: Serve, tmp_path: Path) -> None:
    articles = [article(number) for number in range(25)]
    exhausted = gathered(serve(Server(articles, error(429, "apiKeyExhausted"))), tmp_path / "a")
    assert not exhausted.finished and "tomorrow" in exhausted.notes[0]
    capped = gathered(serve(Server(articles, max_results=20)), tmp_path / "b")
    assert capped.finished and capped.num_new == 20 and "on your plan" in capped.notes[0]


@pytest.mark.req("R090")
def test_a_killed_run_goes_on_and_a_finished_one_does_nothing(serve: Serve, tmp_path: Path) -> None:
    server = Server([article(number) for number in range(25)])
    web = serve(server)
    fetched = 0

    def dies_on_the_second_page(call: Call) -> Reply:
        nonlocal fetched
        fetched += 1
        return server(call) if fetched < 2 else Reply("", 500)

    with pytest.raises(ServeError):
        gathered(serve(dies_on_the_second_page), tmp_path)
    with open(tmp_path / "newsapi.jsonl", "ab") as file:
        file.write(b'{"url": "https://half.exam')  # the line that a kill left half written
    done = gathered(web, tmp_path)
    assert (done.num_new, done.num_total, [call.params["page"] for call in web.calls]) == (15, 25, ["2", "3"])
    before = done.path.read_bytes()
    again = gathered(web, tmp_path)
    assert (again.num_new, again.num_requests, again.finished) == (0, 0, True) and "nothing to do" in again.notes[0]
    assert done.path.read_bytes() == before and len(before.splitlines()) == 25


@pytest.mark.req("R090")
def test_a_kill_between_the_page_and_its_cursor_repeats_nothing(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server([article(number) for number in range(25)]))
    gathered(web, tmp_path)
    cursor = tmp_path / ".newsapi.cursor.json"
    cursor.write_text(json.dumps({**json.loads(cursor.read_text()), "page": 2, "done": False}))
    again = gathered(web, tmp_path)
    assert (again.num_new, again.num_repeated, again.num_total, again.finished) == (0, 15, 25, True)
    cursor.unlink()
    assert gathered(web, tmp_path).num_total == len((tmp_path / "newsapi.jsonl").read_text().splitlines()) == 25


@pytest.mark.req("R090")
def test_a_query_without_end_takes_what_came_since(serve: Serve, tmp_path: Path) -> None:
    server = Server([article(number) for number in range(5)])
    web = serve(server)
    query = NewsQuery(q="fine-tuning", page_size=10)
    assert gathered(web, tmp_path, query).num_new == 5
    server.articles = [article(number) for number in range(3, 8)]
    web.clock.sleep(3600)
    later = gathered(web, tmp_path, query)
    assert (later.num_new, later.num_repeated, later.num_total) == (3, 2, 8)
    assert (web.calls[1].params["from"], web.calls[1].params["to"]) == ("2026-11-21T12:00:00", "2026-11-21T13:00:00")


def test_two_queries_never_share_a_file(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server([article(1)]))
    gathered(web, tmp_path)
    with pytest.raises(DataError, match="collected by another query"):
        gathered(web, tmp_path, NewsQuery(q="other"))
    assert gathered(web, tmp_path, NewsQuery(q="other"), name="other").num_new == 1
    (tmp_path / "newsapi.jsonl").write_text('{"no": "url"}\n')
    with pytest.raises(DataError, match=r"newsapi\.jsonl:1: not an article"):
        gathered(web, tmp_path)


def test_the_users_own_mistakes_are_told_at_once(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEWSAPI_KEY", raising=False)
    web = serve(Server([article(1)], error(400, "parameterInvalid", "too far in the past")))
    with pytest.raises(ConfigError, match="no NewsAPI key") as caught:
        collect_newsapi(QUERY, tmp_path, url=web.url, clock=web.clock)
    assert "export NEWSAPI_KEY" in caught.value.fix and web.calls == []
    with pytest.raises(ConfigError, match="does not take the key") as caught:
        collect_newsapi(QUERY, tmp_path, api_key="wrong-key", url=web.url, clock=web.clock)
    assert "wrong-key" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"parameterInvalid.*too far in the past"):
        gathered(web, tmp_path)
    monkeypatch.setenv("NEWSAPI_KEY", KEY)
    assert collect_newsapi(QUERY, tmp_path, url=web.url, clock=web.clock).num_new == 1
    bad = [{"q": ""}, {"q": "x" * 501}, {"q": "a", "page_size": 101}, {"q": "a", "sort_by": "date"}]
    for fields in [*bad, {"q": "a", "start": "yesterday"}]:
        with pytest.raises(ConfigError):
            gathered(web, tmp_path / "bad", NewsQuery(**fields))


def test_no_connection_is_one_line(tmp_path: Path, serve: Serve) -> None:
    web = serve(Server([]))
    with pytest.raises(ServeError, match="no connection"):
        collect_newsapi(QUERY, tmp_path, api_key=KEY, url="http://127.0.0.1:9/v2", clock=web.clock)
    with pytest.raises(ConfigError, match="is no address"):
        collect_newsapi(QUERY, tmp_path, api_key=KEY, url="http://127.0.0.1:port/", clock=web.clock)


def test_an_endless_body_is_refused(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "MAX_BODY_BYTES", 1000)
    with pytest.raises(ServeError, match="in one answer"):
        gathered(serve(Server([article(number) for number in range(20)])), tmp_path)


def test_without_httpx_the_pip_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(web_module.importlib, "import_module", missing)
    with pytest.raises(MissingDependency) as caught:
        collect_newsapi(QUERY, tmp_path, api_key=KEY)
    assert caught.value.fix == "pip install 'foretune[collect]'"
