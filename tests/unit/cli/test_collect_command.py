"""`foretune collect`: a request log becomes samples; services speak over a local server."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Cli = Any  # the fixture of conftest.py


def exchange(question: str, answer: str, **more: Any) -> str:
    request = {"messages": [{"role": "user", "content": question}]}
    choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return json.dumps({"request": request, "response": {"id": f"r{len(question)}", "choices": [choice]}, **more})


def test_a_request_log_becomes_samples_without_addresses(cli: Cli, tmp_path: Path) -> None:
    log, target = tmp_path / "requests.jsonl", tmp_path / "data" / "log.jsonl"
    log.write_text("\n".join([exchange("who is ann.lee@posteo.de?", "Ann."), exchange("hi", "")]) + "\n")
    result = cli("collect", "log", str(log), str(target), "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["num_samples"] == 1 and sum(found["left_out"].values()) == 1
    text = target.read_text()
    assert "ann.lee@posteo.de" not in text and "[EMAIL]" in text
    assert json.loads((tmp_path / "data" / "source.log.jsonl.json").read_text())["share"] == "internal"
    assert "left out" in cli("collect", "log", str(log), str(target)).out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("log", "none.jsonl", "out.jsonl"), 4, "none.jsonl"),
        (("log", "none.jsonl", "out.jsonl", "--pii", "hide"), 2, "keep, redact, drop"),
        (("newsapi", "fine-tuning", "news"), 2, "NEWSAPI_KEY"),
        (("gdelt", "x", "news"), 2, "too short"),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEWSAPI_KEY", raising=False)
    result = cli("collect", *arguments)
    assert result.code == code and said in result.err and "Traceback" not in result.err
