"""Normal text: evenly written, without HTML or page furniture, and left alone the second time."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foretune.data.clean.normal import article_text, normalised_json, normalised_text, plain_text, restyled_keys

PIECES = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<b>",
        "&amp;",
        "&lt;",
        "&amp;lt;p&gt;",
        "<script>",
        "</script>",
        "a < b",
        "\u00a0",
        "\r\n",
        "\u200b",
        "e\u0301",
        " text ",
        "<br/>",
        "<!-- x -->",
        "[+12 chars]",
        "Advertisement\n",
        "\n\n\n",
    ]
)
PLAIN = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
MESSY = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))


def nested(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=6), values, max_size=3)


@pytest.mark.req("R143")
@settings(max_examples=300, deadline=None)
@given(MESSY)
@example("[+12 chars]" * 6)
def test_everything_is_idempotent(text: str) -> None:
    for change in (normalised_text, normalised_json, plain_text, article_text, lambda t: restyled_keys(t, "camelCase")):
        once = change(text)
        assert change(once) == once


@pytest.mark.req("R143")
@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=6), v, max_size=3),
        max_leaves=8,
    )
)
def test_json_keeps_its_values(value: object) -> None:
    text = json.dumps(value, indent=3)
    assert json.loads(normalised_json(text)) == value


def test_json_is_written_in_one_way_or_left_alone() -> None:
    assert normalised_json('{"b":1,\n "a": [1,2]}') == '{"b": 1, "a": [1, 2]}'
    for text in ('{"a": 1.10}', '{"a": 1, "a": 2}', '{"a": NaN}', "{broken", "[not json]", "plain"):
        assert normalised_json(text) == text


@pytest.mark.req("R138")
def test_keys_take_one_style() -> None:
    assert restyled_keys('{"firstName": {"zipCode": 1}, "a": [{"HTTPCode": 2}]}', "snake_case") == (
        '{"first_name": {"zip_code": 1}, "a": [{"http_code": 2}]}'
    )
    assert restyled_keys('{"first_name": 1, "x": 2}', "camelCase") == '{"firstName": 1, "x": 2}'
    clash = '{"firstName": 1, "first_name": 2}'
    assert restyled_keys(clash, "snake_case") == clash


@pytest.mark.req("R148")
def test_html_goes_and_text_stays() -> None:
    page = "<div><h1>Title</h1><script>x=1</script><p>One &amp; two<br>three</p><nav>Menu</nav></div>"
    assert plain_text(page) == "Title\nOne & two\nthree"
    assert plain_text("if a < b and c > d: pass") == "if a < b and c > d: pass"
    assert plain_text("<nav>a menu that never ends <b>and the text") == "a menu that never ends and the text"
    assert plain_text("kept  as it\n\nis") == "kept  as it\n\nis"


@pytest.mark.req("R149")
def test_an_article_loses_its_furniture() -> None:
    page = """<html><head><title>x</title></head><body><header>Daily News</header>
<p>By Jane Doe</p><p>Published on 3 May 2026</p><p>The council met on Tuesday.</p>
<p>Advertisement</p><p>Read more: other news</p><p>It voted by seven to two.</p><p>Photo: J. Smith</p>
<p>Sign up for our newsletter</p><p>© 2026 Daily News. All rights reserved.</p><footer>Contact</footer></body></html>"""
    assert article_text(page) == "The council met on Tuesday.\nIt voted by seven to two."
    assert article_text("The vote is tonight… [+1523 chars]") == "The vote is tonight"
