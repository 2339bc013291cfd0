"""A run on disk with fake models, for testing evaluation without training anything."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foretune.config.job import JobConfig
from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.data.tokenizer import Tokenizer
from foretune.models.base import resolve_base
from foretune.records.dataset import DatasetRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.records.run import ResolvedRecord
from foretune.records.training import TrainingRecord
from local_web import Reply

LABELS = ("blue", "green", "gold")


def question(number: int) -> Sample:
    """A sample whose answer is one of three words."""
    turns = (
        Message("system", "name the colour"),
        Message("user", f"what is the colour of thing {number}?"),
        Message("assistant", LABELS[number % 3]),
    )
    return Sample(f"q{number}", turns, place=f"colours.jsonl:{number}")


@dataclass
class FakeEngine:
    """Answers by a function of the prompt as text; notes every prompt it is asked."""

    answer: Callable[[str], str]
    tokenizer: Tokenizer
    labels: tuple[str, ...] = ()
    max_len: int | None = 512
    kind: str = "causal"
    bits: Callable[[str], float] = lambda text: 2.0
    prompts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    shrunk: list[str] = field(default_factory=list)

    @property
    def loaded(self) -> SimpleNamespace:
        """What evaluation asks of a loaded model."""
        return SimpleNamespace(kind=self.kind)

    def _asked(self, prompts: list[list[int]]) -> list[str]:
        texts = [self.tokenizer.decode(ids, skip_special=False) for ids in prompts]
        self.prompts += texts
        return [self.answer(text) for text in texts]

    def generate(
        self, prompts: list[list[int]], *, max_new_tokens: int, batch_size: int = 32, on_progress: Any = None
    ) -> list[list[int]]:
        """As the engine's, cut at `max_new_tokens`."""
        answers = [self.tokenizer.encode(text)[:max_new_tokens] for text in self._asked(prompts)]
        if on_progress is not None:
            on_progress(len(prompts), len(prompts))
        return answers

    def classify(self, inputs: list[list[int]], *, batch_size: int = 64) -> list[str]:
        """As the engine's."""
        return self._asked(inputs)

    def text_loss(self, texts: list[str], *, max_seq_len: int = 512) -> SimpleNamespace:
        """As the engine's, for one text."""
        num_bytes = len(texts[0].encode())
        nats = self.bits(texts[0]) * num_bytes * 0.6931471805599453
        return SimpleNamespace(bits_per_byte=self.bits(texts[0]), nats=nats, num_tokens=num_bytes, num_bytes=num_bytes)


def thing(prompt: str) -> int:
    """The number that the last question of a prompt is about; -1 where it is about no thing."""
    asked = prompt.rpartition("<|user|>")[2].partition("<|end|>")[0]
    number = asked.partition("thing ")[2].rstrip("?")
    return int(number) if "of thing " in asked and number.isdigit() else -1


def num_shots(prompt: str) -> int:
    """How many solved examples a prompt holds."""
    return prompt.count("<|assistant|>") - 1


def knows(wrong_every: int = 0, least_shots: int = 0) -> Callable[[str], str]:
    """A model that is right but for every n-th thing, once it is shown enough examples."""

    def answer(prompt: str) -> str:
        number = thing(prompt)
        if number < 0:
            return "?"
        is_right = num_shots(prompt) >= least_shots and not (wrong_every and number % wrong_every == 0)
        return LABELS[number % 3] if is_right else "no idea"

    return answer


class FakeRun:
    """A trained run in a temporary folder whose models are fakes; `loads` notes which were loaded, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.folder = folder
        self.runs_dir = folder / "runs"
        self.run_dir = self.runs_dir / "colours-001"
        self.tokenizer = Tokenizer.from_folder(resolve_base("pebble"))
        self.base = FakeEngine(knows(2, least_shots=1), self.tokenizer)
        self.tuned = FakeEngine(knows(), self.tokenizer)
        self.loads: list[str] = []
        self.settings: dict[str, Any] = {"evaluate": {"advanced": {"probe_samples": 0, "max_validation_samples": 12}}}
        self.primary_metric = ""
        if monkeypatch is not None:
            monkeypatch.setattr("foretune.engine.engine.load_engine", self._load)

    def _load(self, base: Path, artefact: Path | None = None) -> FakeEngine:
        self.loads.append("base" if artefact is None else "fine_tuned")
        return self.base if artefact is None else self.tuned

    @property
    def job(self) -> JobConfig:
        """The job of this run."""
        return JobConfig.model_validate(self.settings)

    def write(self, train: list[Sample], validation: list[Sample], test: list[Sample], task: str = "chat") -> None:
        """Store the data and the records that training leaves."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        store = DatasetStore(self.runs_dir)
        version = store.save(Splits(train, validation, test))
        DatasetRecord(version=version, task=task, sources=(), splits=store.infos(version)).write(self.run_dir)
        _training_record(self.run_dir.name, self.job, version).write(self.run_dir)
        ResolvedRecord(
            run_id=self.run_dir.name,
            created="2026-01-01T00:00:00.000+00:00",
            foretune_version="0",
            job=self.job.model_dump(mode="json"),
            origins={},
            folder=str(self.folder),
            primary_metric=self.primary_metric,
        ).write(self.run_dir)

    @property
    def training(self) -> TrainingRecord:
        """What training left."""
        return TrainingRecord.read(self.run_dir)

    def write_questions(self, num_test: int = 60, num_validation: int = 12) -> None:
        """Thirty training questions (from 0), validation questions from 100 on and test questions from 1000 on."""
        self.write(
            [question(number) for number in range(30)],
            [question(number) for number in range(100, 100 + num_validation)],
            [question(number) for number in range(1000, 1000 + num_test)],
        )

    def evaluate(self, **options: Any) -> EvaluationRecord:
        """Evaluate this run."""
        from foretune.evaluate.evaluate import evaluate

        return evaluate(self.job, run_dir=self.run_dir, runs_dir=self.runs_dir, folder=self.folder, **options)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A JSONL file of the run folder."""
        return [json.loads(line) for line in (self.run_dir / name).read_text(encoding="utf-8").splitlines()]


def _training_record(run_id: str, job: JobConfig, version: str) -> TrainingRecord:
    return TrainingRecord(
        run_id=run_id,
        base=job.base,
        base_sha256="0",
        method=job.train.method,
        dataset_version=version,
        foretune_version="0",
        versions={},
        device="cpu",
        precision="fp32",
        seed=0,
        total_parameters=1,
        trainable_parameters=1,
        num_steps=1,
        planned_steps=1,
        num_epochs=1,
        num_tokens=1,
        num_loss_tokens=1,
        seconds=1,
        train_seconds=1,
        tokens_per_second=1,
        peak_memory_bytes=1,
        cost_usd=0,
        stop_reason="finished",
        best_step=1,
        best_eval_loss=0.1,
        final_train_loss=0.1,
        train_curve=(),
        eval_curve=(),
        artefact="adapter",
        artefact_sha256={},
        labels=LABELS if job.train.method == "classify" else (),
    )


@pytest.fixture
def real_run(tmp_path: Path) -> FakeRun:
    """A run that is not written yet, whose models are what lies in its folders."""
    return FakeRun(tmp_path)


@pytest.fixture
def fake_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """A run that is not written yet."""
    return FakeRun(tmp_path, monkeypatch)


@dataclass
class ChatServer:
    """A running OpenAI-compatible server on this machine, and the requests it got: (headers, body)."""

    url: str
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def spec(self, model: str = "big") -> str:
        """As the job names it."""
        return f"{self.url}/v1#{model}"


def said(text: str, read: int = 10, written: int = 2) -> Reply:
    """An answer in OpenAI's form."""
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return Reply({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage})


Chatter = Callable[[dict[str, Any], int], Reply]  # the request's body and its number -> what the server sends


@pytest.fixture
def chat_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Chatter], ChatServer]]:
    """`chat_server(answer)` starts a server that answers every POST by `answer(body, number)`."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("foretune.evaluate.endpoint.FIRST_WAIT_SECONDS", 0.001)
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Chatter) -> ChatServer:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                chat.requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
                reply = answer(body, len(chat.requests))
                self.send_response(reply.status)
                length = len(reply.content) * (2 if reply.cut else 1)
                for key, value in {"Content-Length": str(length), "Connection": "close", **reply.headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(reply.content)

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        chat = ChatServer(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        return chat

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
