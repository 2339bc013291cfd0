"""Answers of a teacher: asked once, resumed, cut ones left out, every row with where it came from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foretune.cli.teacher import teacher as ask
from foretune.collect.sources import read_card
from foretune.collect.teacher import Teacher, ask_teacher
from foretune.data.formats import read_samples
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError
from local_web import FakeClock

Script = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def _choice(text: str, finish: str = "stop") -> tuple[int, dict[str, Any]]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return 200, {"model": "big-1", "choices": [{"message": message, "finish_reason": finish}], "usage": usage}


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], tuple[Teacher, list[dict[str, Any]]]]]:
    """`teacher(script)`: a chat server on this machine that answers as the script says, and what it was asked."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(script: Script) -> tuple[Teacher, list[dict[str, Any]]]:
        calls: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                calls.append({**body, "path": self.path, "key": self.headers.get("authorization", "")})
                status, document = script(body)
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return Teacher(f"http://127.0.0.1:{server.server_address[1]}/v1", "big", key="secret"), calls

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def _prompts(*texts: str) -> list[Sample]:
    return [Sample(id=text, messages=(Message("user", text), Message("assistant", "old answer"))) for text in texts]


def test_answers_become_conversations_with_their_source(teacher: Any, tmp_path: Path) -> None:
    server, calls = teacher(lambda body: _choice(f"answer to {body['messages'][-1]['content']}"))
    path = tmp_path / "distilled.jsonl"
    found = ask_teacher(_prompts("a?", "b?", "a?"), path, server, clock=FakeClock())
    assert (found.num_new, found.num_total, found.num_requests) == (2, 2, 2)
    assert (found.prompt_tokens, found.answer_tokens) == (14, 6)
    assert calls[0]["path"] == "/v1/chat/completions" and calls[0]["key"] == "Bearer secret"
    assert [message["content"] for message in calls[0]["messages"]] == ["a?"]  # the old answer is not shown
    samples = read_samples(path).samples
    assert [sample.target for sample in samples] == ["answer to a?", "answer to b?"]
    row = json.loads(path.read_text().splitlines()[0])
    assert row["provenance"]["source"] == "teacher big-1" and len(row["provenance"]["sha256"]) == 64
    card = read_card(path)
    assert card.kind == "teacher" and "test split" in card.note
    assert "secret" not in "".join(file.read_text() for file in tmp_path.iterdir() if file.is_file())


def test_a_run_that_was_killed_goes_on_where_it_stood(teacher: Any, tmp_path: Path) -> None:
    server, calls = teacher(lambda body: _choice("yes") if len(calls) < 3 else (401, {"error": {"message": "bad key"}}))
    path = tmp_path / "distilled.jsonl"
    with pytest.raises(ConfigError, match="refuses the key"):
        ask_teacher(_prompts("a?", "b?", "c?"), path, server, clock=FakeClock())
    with open(path, "ab") as file:
        file.write(b'{"id": "half a li')
    again, more = teacher(lambda body: _choice("yes"))
    found = ask_teacher(_prompts("a?", "b?", "c?"), path, again, clock=FakeClock())
    assert (found.num_new, found.num_total, len(more)) == (1, 3, 1)
    assert [json.loads(line)["messages"][0]["content"] for line in path.read_text().splitlines()] == ["a?", "b?", "c?"]


def test_cut_filtered_and_empty_answers_are_left_out_and_not_paid_for_twice(teacher: Any, tmp_path: Path) -> None:
    ends = {"a?": ("half", "length"), "b?": ("", "stop"), "c?": ("", "content_filter"), "d?": ("fine", "stop")}
    server, calls = teacher(lambda body: _choice(*ends[body["messages"][-1]["content"]]))
    path = tmp_path / "distilled.jsonl"
    for _ in range(2):
        found = ask_teacher(_prompts(*ends), path, server, clock=FakeClock())
    assert found.num_total == 1 and len(calls) == 4
    assert found.left_out == {"cut off at max_tokens": 1, "empty": 1, "filtered by the provider": 1}


def test_a_busy_server_is_asked_again_and_a_wrong_model_is_not(teacher: Any, tmp_path: Path) -> None:
    server, calls = teacher(lambda body: (503, {}) if len(calls) < 3 else _choice("yes"))
    assert ask_teacher(_prompts("a?"), tmp_path / "one.jsonl", server, clock=FakeClock()).num_requests == 3
    wrong, more = teacher(lambda body: (404, {"error": {"message": "no model big"}}))
    with pytest.raises(ConfigError, match="no model big"):
        ask_teacher(_prompts("a?"), tmp_path / "two.jsonl", wrong, clock=FakeClock())
    assert len(more) == 1


def test_a_foreign_file_is_not_written_to(teacher: Any, tmp_path: Path) -> None:
    server, calls = teacher(lambda body: _choice("yes"))
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "mine"}\n')
    with pytest.raises(DataError, match=r"mine\.jsonl:1"):
        ask_teacher(_prompts("a?"), path, server, clock=FakeClock())
    assert not calls and path.read_text() == '{"text": "mine"}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("samples.jsonl", '{"prompt": "a?", "completion": "old"}\n{"prompt": "b?", "completion": "old"}\n'),
        ("bare.jsonl", '{"prompt": "a?"}\n{"prompt": "b?"}\n'),
        ("asked.jsonl", '{"query": "a?", "user": 1}\n{"query": "b?", "user": 2}\n'),
    ],
)
def test_prompts_need_no_answers(teacher: Any, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    server, calls = teacher(lambda body: _choice("yes"))
    shown = ask(tmp_path / name, tmp_path / "distilled.jsonl", server.url, "big")
    assert shown.document["num_new"] == 2
    assert [call["messages"][-1]["content"] for call in calls] == ["a?", "b?"]
