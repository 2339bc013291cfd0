"""Fixtures of the connectors' tests: a clock that does not wait, a server on this machine."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from local_web import Answerer, Call, FakeClock, Web


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def serve(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answerer], Web]]:
    """`serve(answer)` starts a threaded server on this machine that answers every request by `answer(call)`."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Answerer) -> Web:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                params = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
                headers = {key.lower(): value for key, value in self.headers.items()}
                call = Call(self.command, parts.path, params, headers, clock.seconds)
                web.calls.append(call)
                reply = answer(call)
                self.send_response(reply.status)
                length = len(reply.content) * (2 if reply.cut else 1)
                for key, value in {"Content-Length": str(length), "Connection": "close", **reply.headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(reply.content)

            do_HEAD = do_GET

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        web = Web(f"http://127.0.0.1:{server.server_address[1]}", clock)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        return web

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
