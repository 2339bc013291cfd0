"""Rephrasing by a given model: an endpoint on this machine; answers that change the question are not taken."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from foretune.data.augment import augmented
from foretune.data.rephrase import careful, endpoint_rephrase
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, ServeError

Reply = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
def endpoint() -> Iterator[Callable[[Reply], str]]:
    """Start a server whose answer to a chat completion is `reply(body)`; its URL."""
    servers: list[HTTPServer] = []

    def start(reply: Reply) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = reply(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def said(text: str) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.mark.req("R299")
def test_a_given_model_rephrases_and_is_named(endpoint: Callable[[Reply], str]) -> None:
    asked: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> tuple[int, bytes]:
        asked.append(body)
        return said('"What became of my order 4711?"')

    url = endpoint(reply)
    rows = [
        Sample(f"s{n}", (Message("user", f"where is order 4711{'?' * n}"), Message("assistant", "on its way")))
        for n in range(5)
    ]
    new = augmented(rows, kinds=["rephrase"], share=0.2, rephrase=endpoint_rephrase(f"{url}#m"), model_name="m")
    (row,) = new
    assert row.input_text == "What became of my order 4711?" and row.target == "on its way"
    assert row.meta["augmented"]["how"] == ["rephrase:m"] and row.group == row.meta["augmented"]["from"]
    assert asked[0]["model"] == "m" and "order 4711" in asked[0]["messages"][0]["content"]


@pytest.mark.parametrize("answer", ["", "What became of my order 4712?", "No.", "x" * 500])
def test_an_answer_that_is_no_rephrasing_leaves_the_text(answer: str) -> None:
    assert careful(lambda prompt: answer)("where is my order 4711, please?") == "where is my order 4711, please?"


def test_what_goes_wrong_is_one_line(endpoint: Callable[[Reply], str]) -> None:
    for spec in ("gpt", "http://127.0.0.1:1/v1", "ftp://x#m"):
        with pytest.raises(ConfigError, match="expected URL#MODEL"):
            endpoint_rephrase(spec)
    for status, content, what in ((500, b"<html>no</html>", "status 500"), (200, b"<html>", "without choices")):
        url = endpoint(lambda body, status=status, content=content: (status, content))
        with pytest.raises(ServeError, match=what):
            endpoint_rephrase(f"{url}#m")("some text")
    with pytest.raises(ServeError, match="no answer"):
        endpoint_rephrase("http://127.0.0.1:9/v1#m")("some text")
