"""Whatever a server sends: it is taken, asked for again, or one of our errors; never a traceback."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretune.collect import gdelt, newsapi
from foretune.collect.articles import ArticleFile, article_row, is_address, url_key
from foretune.collect.sources import SourceCard, read_card
from foretune.collect.web import Answer, parsed_object, plain_words
from foretune.errors import ConfigError, ForetuneError

KEYS = st.sampled_from(
    "status code message articles totalResults url title description content source name publishedAt seendate".split()
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ODD = st.sampled_from(["http://[", "https://a.example/1", "//x", "javascript:1", "x [+99999999999999 chars]", "\ud800"])
JSON = st.recursive(
    SCALARS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(JSON | st.text(max_size=40), st.sampled_from([200, 301, 400, 401, 403, 404, 426, 429, 500, 503]), st.booleans())
def test_no_answer_breaks_a_connector(body: Any, status: int, as_page: bool) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    answer = Answer(status, {"content-type": "text/html" if as_page else "application/json"}, text)
    for judge in (newsapi._judge, gdelt._judge):
        try:
            reason = judge(answer)
        except ForetuneError as error:
            assert "\n" not in error.what and error.fix
            continue
        if not reason:
            assert isinstance((parsed_object(text) or {}).get("articles", []), list) or '"code"' in text


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=5))
def test_no_article_breaks_the_file(tmp_path: Path, raws: list[Any]) -> None:
    with ArticleFile(tmp_path, "fuzz", "key", SourceCard) as file:
        for raw in raws:
            for article in (newsapi._article(raw, ""), gdelt._article(raw)):
                if article is not None:
                    row = article_row(article, service="s", licence="l", share="none", retrieved_at="t", raw=raw)
                    file.append([row])
    with ArticleFile(tmp_path, "fuzz", "key", SourceCard) as again:
        assert again.num_total == file.num_total


def test_one_run_at_a_time_collects_into_a_file_and_a_failed_one_leaves_its_card(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ArticleFile(tmp_path, "a", "key", lambda: SourceCard(share="none")) as file:
        file.append([{"url": "https://a.example/1"}])
        with (
            pytest.raises(ConfigError, match="another run is collecting"),
            ArticleFile(tmp_path, "a", "key", SourceCard),
        ):
            pass
        raise ZeroDivisionError
    assert read_card(file.path).share == "none"
    with ArticleFile(tmp_path, "a", "key", SourceCard) as again:
        assert again.num_total == 1


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_addresses_have_one_stable_key(host: str, rest: str) -> None:
    url = f"https://{host}/{rest}"
    if is_address(url):
        assert url_key(url.strip().partition("#")[0] + "#part") == url_key(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "tab\there"}', {"a": "tab\there"}),
        ('{"a": "C:\\dir \\"x\\" \\\\d"}', {"a": 'C:\\dir "x" \\d'}),
        ('{"a": 1', None),
        ("[1]", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_json_of_careless_servers_is_read(text: str, expected: Any) -> None:
    assert parsed_object(text) == expected


def test_a_page_is_told_in_its_words() -> None:
    page = "<html><head><style>p{}</style></head><body><p>Too  many\nrequests</p><script>x()</script></body></html>"
    assert plain_words(page) == "Too many requests"
    assert len(plain_words("<p>" + "word " * 1000)) == 160
