"""GDELT DOC 2.0 against a local server that speaks its protocol, faults included."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.articles import Collection
from foretune.collect.gdelt import GdeltQuery, collect_gdelt
from foretune.errors import ConfigError, ServeError
from local_web import Answerer, Call, Reply, Web

START = datetime(2026, 11, 20, tzinfo=UTC)
QUERY = GdeltQuery('"fine tuning" sourcelang:english', start="2026-11-20", end="2026-11-21")
Serve = Callable[[Answerer], Web]


def news(num: int, every: timedelta) -> list[dict[str, Any]]:
    return [
        {
            "url": f"https://site{number % 7}.example/{number}",
            "url_mobile": "",
            "title": f"Something  happened , number {number}",
            "seendate": (START + number * every).strftime("%Y%m%dT%H%M%SZ"),
            "socialimage": "",
            "domain": f"site{number % 7}.example",
            "language": "English",
            "sourcecountry": "Kenya",
        }
        for number in range(num)
    ]


class Server:
    """Answers by window, at most `maxrecords`, and refuses requests that come within five seconds of the last."""

    def __init__(self, articles: list[dict[str, Any]], *faults: Reply) -> None:
        self.articles = articles
        self.faults = list(faults)
        self.last_at = -100.0

    def __call__(self, call: Call) -> Reply:
        too_fast, self.last_at = call.at - self.last_at < 5, call.at
        if too_fast:
            return Reply("Please limit requests to one every 5 seconds.", 429)
        if self.faults:
            return self.faults.pop(0)
        form = "%Y%m%d%H%M%S"
        start, end = (datetime.strptime(call.params[name], form) for name in ("startdatetime", "enddatetime"))
        found = [a for a in self.articles if start <= datetime.strptime(a["seendate"], "%Y%m%dT%H%M%SZ") <= end]
        found = found[::-1][: min(int(call.params["maxrecords"]), 250)]
        return Reply({"articles": found} if found else {}, headers={"Content-Type": "application/json"})


def gathered(web: Web, folder: Path, query: GdeltQuery = QUERY, **options: Any) -> Collection:
    return collect_gdelt(query, folder, url=f"{web.url}/api/v2/doc/doc", clock=web.clock, **options)


@pytest.mark.req("R089")
def test_a_window_that_is_full_is_halved_until_nothing_is_missing(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server(news(1000, timedelta(seconds=80))))
    done = gathered(web, tmp_path)
    assert (done.num_new, done.finished, done.notes) == (1000, True, ())
    assert all(call.params["mode"] == "artlist" and call.params["format"] == "json" for call in web.calls)
    assert all(call.params["maxrecords"] == "250" for call in web.calls)
    row = json.loads(done.path.read_text().splitlines()[0])
    assert row["title"].startswith("Something happened , number") and row["published_at"].startswith("2026-11-20T")
    assert (row["language"], row["country"], row["provenance"]["share"]) == ("English", "Kenya", "link-only")


@pytest.mark.req("R089")
def test_requests_are_more_than_five_seconds_apart(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server(news(600, timedelta(seconds=120))))
    gathered(web, tmp_path)
    gaps = [later.at - earlier.at for earlier, later in zip(web.calls, web.calls[1:], strict=False)]
    assert len(gaps) >= 3 and min(gaps) >= 5.0 and web.clock.slept


RATE = "Please limit requests to one every 5 seconds or contact us for larger queries."
FAULTS = {
    "rate limit": Reply(RATE, 429),
    "rate limit with status 200": Reply(RATE, 200, {"Content-Type": "text/html"}),
    "page with status 200": Reply("<html><head><title>x</title></head><body>Error</body></html>"),
    "server error": Reply("Internal error", 500),
    "truncated body": Reply({"articles": []}, cut=True),
    "half a JSON": Reply('{"articles": [{"url": "https://a.example/1", "title": "hal'),
    "empty": Reply(""),
}


@pytest.mark.req("R089")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_one_line(
    fault: Reply, serve: Serve, tmp_path: Path
) -> None:
    web = serve(Server(news(3, timedelta(hours=1)), fault, fault))
    done = gathered(web, tmp_path / "passing")
    assert (done.num_new, done.num_requests, done.finished) == (3, 3, True)
    lasting = serve(Server(news(3, timedelta(hours=1)), *[fault] * 20))
    if "rate" in str(fault.body) or fault.body == RATE:
        stopped = gathered(lasting, tmp_path / "lasting")
        assert not stopped.finished and "rate limit" in stopped.notes[0]
        return
    with pytest.raises(ServeError, match="GDELT does not answer as it should") as caught:
        gathered(lasting, tmp_path / "lasting")
    assert "\n" not in caught.value.what


@pytest.mark.req("R089")
@pytest.mark.parametrize("words", ["Your query was too short or too long.", "The specified phrase is too short."])
def test_a_query_that_is_not_taken_is_told_in_the_services_words(words: str, serve: Serve, tmp_path: Path) -> None:
    web = serve(Server([], Reply(f"{words}\n", 200, {"Content-Type": "text/html"})))
    with pytest.raises(ConfigError, match=words):
        gathered(web, tmp_path)
    assert len(web.calls) == 1


def test_json_with_stray_backslashes_is_read(serve: Serve, tmp_path: Path) -> None:
    body = '{"articles": [{"url": "https://a.example/1", "title": "C:\\new \\d \\"q\\" \\\\d\ttab", "domain": "a"}]}'
    done = gathered(serve(Server([], Reply(body))), tmp_path)
    assert json.loads(done.path.read_text())["title"] == 'C: ew \\d "q" \\d tab'


@pytest.mark.req("R090")
def test_a_stopped_run_goes_on_and_a_finished_one_does_nothing(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server(news(1000, timedelta(seconds=80))))
    parts = [gathered(web, tmp_path, max_requests=2)]
    while not parts[-1].finished and len(parts) < 20:
        web.clock.sleep(6)
        parts.append(gathered(web, tmp_path, max_requests=2))
    assert parts[-1].num_total == 1000 and len(parts) > 2
    asked = [(call.params["startdatetime"], call.params["enddatetime"]) for call in web.calls]
    assert len(asked) == len(set(asked))
    assert gathered(web, tmp_path).num_requests == 0
    lines = (tmp_path / "gdelt.jsonl").read_text().splitlines()
    assert len({json.loads(line)["url"] for line in lines}) == len(lines) == 1000


def test_a_query_without_end_takes_what_came_since(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server(news(40, timedelta(hours=1))))
    query = GdeltQuery("climate")
    assert gathered(web, tmp_path, query).num_new == 25
    web.clock.sleep(3 * 3600)
    assert gathered(web, tmp_path, query).num_new == 3
    assert web.calls[-1].params["startdatetime"] == "20261121120000"


def test_what_no_window_can_reach_is_told(serve: Serve, tmp_path: Path) -> None:
    web = serve(Server(news(300, timedelta(seconds=1))))
    done = gathered(web, tmp_path, GdeltQuery("climate", start="2026-11-20", end="2026-11-20T00:20:00"))
    assert done.num_total == 250 and "holds more than 250 articles" in done.notes[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"query": "a"},
        {"query": "abc", "max_records": 251},
        {"query": "abc", "start": "x"},
        {"query": "abc", "start": "2026-11-20", "end": "2026-11-19"},
    ],
)
def test_the_users_own_mistakes_are_told_at_once(fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        collect_gdelt(GdeltQuery(**fields), tmp_path)
