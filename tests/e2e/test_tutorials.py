"""Do the tutorials run: every command of a page, in its order, with a tiny stand-in for the weights it names."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_model

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
COMMAND = re.compile(r"^    foretune (.+)$", re.MULTILINE)


def in_the_cache(hub: Path, name: str, family: str) -> None:
    """A model of this family with random weights where a download of `name` would lie."""
    model = hub / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("c0ffee", encoding="utf-8")
    tiny_model(model / "snapshots" / "c0ffee", family)


@pytest.mark.req("R411", "R212", "R413")
def test_sentiment_with_gpt2(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_cache(tmp_path / "hub", "openai-community/gpt2", "gpt2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page = (TUTORIALS / "sentiment-gpt2.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^## \d", page, re.MULTILINE)) == 6
    said = {}
    for line in COMMAND.findall(page):
        done = cli(*shlex.split(line))
        assert done.code == 0, f"foretune {line}\n{done.out}\n{done.err}"
        assert "Next: foretune " in done.out, line
        said[line.split()[0]] = done.out
    assert list(said) == ["init", "audit", "plan", "run", "diagnose", "chat", "report"]
    assert "fine-tuned" in said["run"] and "one answer to all" in said["run"]
    assert said["chat"].split()[0] in ("positive", "negative", "neutral")
    assert "Next: foretune run mood/job.toml --set base=openai-community/gpt2" in said["plan"]
