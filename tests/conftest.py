"""Fixtures that several folders of tests share."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("same_every_time", derandomize=True, database=None)
settings.load_profile("same_every_time")

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--accept` rewrites the pinned contracts."""
    parser.addoption("--accept", action="store_true", help="rewrite the pinned files of tests/contract")


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's own defaults, FORETUNE_ variables and the network out of every test."""
    import os

    for name in [name for name in os.environ if name.startswith("FORETUNE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """End and reap what a test started detached."""
    from foretune.backends import local

    yield
    while local._CHILDREN:
        _, process = local._CHILDREN.popitem()
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; the test is skipped where there is none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (hidden 32, 2 layers) with a BPE tokenizer of about 300 tokens, as a Hugging Face folder."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    from foretune.data.world.tokenizer import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = train_tokenizer(vocab_size=300, num_documents=200)
    save_tokenizer(folder, tokenizer)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|bos|>"),
        eos_token_id=tokenizer.token_to_id("<|end|>"),
        pad_token_id=tokenizer.token_to_id("<|pad|>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class CliResult:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        result: dict[str, Any] = json.loads(self.out)
        return result


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., CliResult]]:
    """Run a command line in this process, in an empty folder: `cli("plan", "job.toml", "--json")`."""
    from foretune.cli.main import run_command

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> CliResult:
        capfd.readouterr()
        code = run_command([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return CliResult(code, captured.out, captured.err)

    yield run


def write_chat_rows(path: Path, num_rows: int = 60) -> Path:
    """A chat file whose answer follows from its question, for quick runs."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"colour {number} of the {('sky', 'sea', 'sun')[number % 3]}?"},
                {"role": "assistant", "content": ("blue", "green", "gold")[number % 3]},
            ]
        }
        for number in range(num_rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tiny_job(tmp_path: Path, tiny_llama: Path) -> Path:
    """A job file with data that trains in seconds on the tiny Llama."""
    write_chat_rows(tmp_path / "data" / "colours.jsonl")
    job = tmp_path / "job.toml"
    job.write_text(
        f"""name = "tiny"
base = "{tiny_llama}"

[data]
path = "data/colours.jsonl"

[train]
method = "lora"
learning_rate = 5e-3
global_batch_size = 8
rank = 4

[train.advanced]
max_steps = 4
eval_every = 2
num_threads = 1

[evaluate]
max_new_tokens = 8
few_shot = [2]
""",
        encoding="utf-8",
    )
    return job
