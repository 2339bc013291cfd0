"""`foretune collect newsapi` against a service that fails in every way: one line each, and nothing lost."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_web import Answerer, Call, Reply, Web

Serve = Callable[[Answerer], Web]
ARTICLE = {
    "source": {"name": "The Daily"},
    "title": "Title",
    "description": "What happened",
    "url": "https://www.daily.example/1",
    "publishedAt": "2026-11-20T10:00:00Z",
    "content": "x",
}
GOOD = Reply({"status": "ok", "totalResults": 1, "articles": [ARTICLE]})
PAGE = "<html><head><title>Sorry</title></head><body>Service unavailable</body></html>"
FAULTS = {
    "429": Reply({"status": "error", "code": "rateLimited", "message": "slow down"}, 429),
    "500": Reply("oops", 500),
    "html with status 200": Reply(PAGE),
    "cut off": Reply(json.dumps(GOOD.body)[:40], cut=True),
    "half a body": Reply(json.dumps(GOOD.body)[:40]),
}


@pytest.fixture
def news(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`news(url)` runs the command without waiting between tries."""
    monkeypatch.setenv("NEWSAPI_KEY", "key-0123456789")
    monkeypatch.setattr("foretune.collect.web.SystemClock.sleep", lambda self, seconds: None)
    return lambda web: cli("collect", "newsapi", "politics", "news", "--url", f"{web.url}/v2/everything", "--json")


@pytest.mark.parametrize("name", FAULTS)
def test_a_service_that_fails_to_the_end_is_one_line(name: str, serve: Serve, news: Any) -> None:
    web = serve(lambda call: FAULTS[name])
    result = news(web)
    said = result.err + result.out
    assert "Traceback" not in said and len(web.calls) >= 2
    if result.code:
        assert result.code == 5 and result.document["error"]["fix"]
        assert len([line for line in result.err.splitlines() if line.startswith("error:")]) == 1
    else:
        assert result.document["finished"] is False and result.document["notes"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_service_that_recovers_loses_nothing(name: str, serve: Serve, news: Any) -> None:
    replies = [FAULTS[name]]

    def answer(call: Call) -> Reply:
        return replies.pop() if replies else GOOD

    result = news(serve(answer))
    assert result.code == 0, result.err
    assert result.document["num_total"] == 1 and len(Path(result.document["path"]).read_text().splitlines()) == 1
