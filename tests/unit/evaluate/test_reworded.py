"""The rewording test through the command: who learned by heart falls further in other words than who did not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conftest import CliResult
from foretune.data.ledger import TestLedger as Ledger
from foretune.data.samples import Message, Sample
from foretune.evaluate.reworded import measure_reworded
from foretune.records.evaluation import EvaluationRecord
from foretune.records.reworded import REWORDED_ANSWERS, RewordedRecord, RewordedSplit
from foretune.records.training import CurvePoint
from unit.evaluate.conftest import LABELS, ChatServer, Chatter, FakeRun, question, said

pytestmark = pytest.mark.req("R296")
Cli = Callable[..., CliResult]
Answers = Callable[[str], str]


def asked(prompt: str) -> tuple[str, int]:
    """The last user message of a prompt, and the number in it."""
    text = prompt.rpartition("<|user|>")[2].partition("<|end|>")[0].strip()
    found = re.search(r"\d+", text)
    return text, int(found.group()) if found else -1


def by_heart(prompt: str) -> str:
    """Right on training questions (below 100) word for word; of others it knows every second, in any words."""
    text, number = asked(prompt)
    is_known = text == f"what is the colour of thing {number}?" if number < 100 else bool(number % 2)
    return LABELS[number % 3] if is_known else "no idea"


def careless(prompt: str) -> str:
    """Right on every question word for word, on half of them in other words, seen or not."""
    text, number = asked(prompt)
    is_known = text == f"what is the colour of thing {number}?" or number % 2
    return LABELS[number % 3] if is_known else "no idea"


def sound(prompt: str) -> str:
    """Right whatever the words."""
    return LABELS[asked(prompt)[1] % 3]


@pytest.fixture
def trained(fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRun]:
    """`trained(answers)` is a run whose fine-tuned model answers so, on up to 100 questions of each split."""
    monkeypatch.setattr("foretune.models.adapter.merge_lora", lambda loaded: None)

    def make(answers: Answers, num_train: int = 90, num_validation: int = 90) -> FakeRun:
        fake_run.tuned.answer = answers
        splits = (range(num_train), range(100, 100 + num_validation), range(1000, 1020))
        fake_run.write(*([question(number) for number in numbers] for numbers in splits))
        curve = tuple(CurvePoint(step=step, loss=1 / step) for step in range(1, 13))
        fake_run.training.model_copy(update={"train_curve": curve}).write(fake_run.run_dir)
        return fake_run

    return make


def diagnosed(cli: Cli, run: FakeRun, *options: str) -> dict[str, Any]:
    """The document of `foretune diagnose RUN --no-probe` with options."""
    return cli("diagnose", run.run_dir, "--runs-dir", run.runs_dir, "--no-probe", "--json", *options).document


def causes(document: dict[str, Any]) -> list[str]:
    return [cause["mode"] for cause in document["diagnosis"]["causes"]]


def test_who_learned_by_heart_is_found(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    """Right as seen, wrong in other words, where validation loses nothing by them: overfitting, with the sentence."""
    document = diagnosed(cli, trained(by_heart), "--reword")
    found = document["reworded"]
    assert (found["train"]["seen"], found["train"]["reworded"], found["train"]["fall"]) == (1, 0, 1)
    assert (found["validation"]["seen"], found["validation"]["fall"]) == (0.5, 0)
    assert found["finding"] == "by_heart" and found["surplus"]["value"] == 1 and found["surplus"]["ci_low"] > 0.8
    assert causes(document) == ["overfitting"]
    assert document["diagnosis"]["causes"][0]["evidence"] == [found["reason"]]
    assert document["diagnosis"]["causes"][0]["patch"]


def test_what_rewording_costs_every_model_is_no_overfitting(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    """Both splits lose half: no surplus."""
    document = diagnosed(cli, trained(careless), "--reword")
    assert document["reworded"]["train"]["fall"] == pytest.approx(0.5)
    assert document["reworded"]["validation"]["fall"] == pytest.approx(0.5)
    assert document["reworded"]["finding"] == "unclear" and causes(document) == []


def test_a_sound_model_is_proven_not_to_answer_by_heart(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(sound)
    document = diagnosed(cli, run, "--reword")
    assert document["reworded"]["finding"] == "even" and 0 < document["reworded"]["surplus"]["ci_high"] <= 0.1
    assert causes(document) == []
    shown = cli("diagnose", run.run_dir, "--runs-dir", run.runs_dir, "--no-probe", "--reword")
    assert max(len(line) for line in shown.out.splitlines() if str(run.runs_dir) not in line) <= 80
    flat = " ".join(shown.out.split())
    assert "training 1.000 1.000 +0.000" in flat and "does not hang on the words it has seen" in flat


def test_it_changes_nothing_where_it_is_not_asked_for(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart)
    document = diagnosed(cli, run)
    assert "reworded" not in document and causes(document) == []
    assert run.tuned.prompts == [] and not RewordedRecord.exists(run.run_dir)


def test_it_is_measured_once_and_counts_from_then_on(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart)
    first = diagnosed(cli, run, "--reword")
    num_prompts = len(run.tuned.prompts)
    assert diagnosed(cli, run, "--reword")["reworded"] == first["reworded"]
    assert causes(diagnosed(cli, run)) == ["overfitting"]
    assert len(run.tuned.prompts) == num_prompts


def test_what_another_artefact_said_does_not_count(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart)
    diagnosed(cli, run, "--reword")
    run.training.model_copy(update={"artefact_sha256": {"adapter": "1"}}).write(run.run_dir)
    assert causes(diagnosed(cli, run)) == []
    run.tuned.answer = sound
    assert diagnosed(cli, run, "--reword")["reworded"]["finding"] == "even"


def test_a_damaged_record_is_left_out_and_measured_anew_by_nobody(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart)
    diagnosed(cli, run, "--reword")
    record = RewordedRecord.read(run.run_dir)
    record.model_copy(update={"seconds": -1.0, "train": record.train.model_copy(update={"n": -5})}).write(run.run_dir)
    assert causes(diagnosed(cli, run)) == []
    (run.run_dir / RewordedRecord.file_name).write_text("{")
    assert causes(diagnosed(cli, run)) == []


def test_a_stopped_test_goes_on(trained: Callable[..., FakeRun]) -> None:
    """Answers that were there are not asked for again."""
    run = trained(by_heart)
    options = {"run_dir": run.run_dir, "runs_dir": run.runs_dir, "folder": run.folder}

    def stops(prompt: str) -> str:
        if asked(prompt)[1] >= 100:
            raise KeyboardInterrupt
        return by_heart(prompt)

    run.tuned.answer = stops
    with pytest.raises(KeyboardInterrupt):
        measure_reworded(run.job, **options)
    num_before = len(run.tuned.prompts)
    run.tuned.answer = by_heart
    record = measure_reworded(run.job, **options)
    later = run.tuned.prompts[num_before:]
    assert record.finding == "by_heart" and later and all(asked(prompt)[1] >= 100 for prompt in later)


def test_the_test_split_stays_sealed(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(sound)
    diagnosed(cli, run, "--reword")
    assert Ledger(run.runs_dir).looks(run.training.dataset_version) == []
    assert all(asked(prompt)[1] < 1000 for prompt in run.tuned.prompts)
    assert not EvaluationRecord.exists(run.run_dir)


def test_every_answer_is_there_to_be_read(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart, 30, 60)
    found = diagnosed(cli, run, "--reword")["reworded"]
    rows = run.lines(REWORDED_ANSWERS)
    train = [row for row in rows if row["split"] == "train"]
    assert len(train) == found["train"]["num_wordings"] > found["train"]["n"] == 30  # few samples, several wordings
    assert len({(row["sample_id"], row["reworded"]) for row in train}) == len(train)
    assert {row["answer_reworded"] for row in train} == {"no idea"}
    assert all(row["input"] != row["reworded"] and row["scores_reworded"]["accuracy"] == 0 for row in train)


def test_samples_without_other_words_are_left_out_and_counted(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(by_heart)
    bare = [Sample(f"b{n}", (Message("user", f"thing {n}"), Message("assistant", LABELS[n % 3]))) for n in range(20)]
    run.write(
        [*(question(number) for number in range(60)), *bare], [question(number) for number in range(100, 160)], []
    )
    found = measure_reworded(run.job, run_dir=run.run_dir, runs_dir=run.runs_dir, folder=run.folder)
    assert (found.train.n, found.train.num_unchanged, found.validation.num_unchanged) == (60, 20, 0)


@pytest.mark.parametrize(
    ("train", "validation", "says", "fix"),
    [
        (90, 2, "2 of 2 validation samples", "collect more validation samples"),
        (0, 60, "0 of 9 train", "--model URL#MODEL"),
    ],
)
def test_too_few_samples_are_said(
    cli: Cli, trained: Callable[..., FakeRun], train: int, validation: int, says: str, fix: str
) -> None:
    run = trained(sound, train or 1, validation)
    if not train:
        bare = [Sample(f"b{n}", (Message("user", f"{n}"), Message("assistant", "blue"))) for n in range(9)]
        run.write(bare, [question(number) for number in range(100, 160)], [])
    result = cli("diagnose", run.run_dir, "--runs-dir", run.runs_dir, "--no-probe", "--reword")
    assert result.code == 3 and says in result.err and fix in result.err


# --- by a model -----------------------------------------------------------------------------------------------------


def rephrasing(body: dict[str, Any], number: int) -> Any:
    """The question in other words, whatever it is."""
    thing = re.findall(r"\d+", body["messages"][-1]["content"])[-1]
    return said(f"which colour has thing {thing}, please?")


def test_a_model_of_an_endpoint_rewords_and_is_asked_once(
    cli: Cli, trained: Callable[..., FakeRun], chat_server: Callable[[Chatter], ChatServer]
) -> None:
    run, server = trained(by_heart), chat_server(rephrasing)
    document = diagnosed(cli, run, "--reword", "--model", server.spec())
    assert document["reworded"]["by"] == server.spec() and document["reworded"]["finding"] == "by_heart"
    assert document["reworded"]["train"]["num_wordings"] == 90
    num_requests = len(server.requests)
    assert num_requests == 180
    diagnosed(cli, run, "--reword", "--model", server.spec())
    assert len(server.requests) == num_requests
    assert diagnosed(cli, run, "--reword")["reworded"]["by"] == "rules"  # another way is measured anew
    again = diagnosed(cli, run, "--reword", "--model", server.spec())["reworded"]
    assert again["train"] == document["reworded"]["train"] and len(server.requests) == num_requests


def test_an_endpoint_that_fails_keeps_what_it_said(
    cli: Cli, trained: Callable[..., FakeRun], chat_server: Callable[[Chatter], ChatServer]
) -> None:
    run = trained(by_heart)
    is_down = [True]

    def flaky(body: dict[str, Any], number: int) -> Any:
        reply = rephrasing(body, number)
        return replace(reply, status=500) if is_down[0] and number > 40 else reply

    server = chat_server(flaky)
    command = ["diagnose", run.run_dir, "--runs-dir", run.runs_dir, "--no-probe", "--reword", "--model", server.spec()]
    result = cli(*command)
    assert result.code != 0 and "status 500" in result.err and not RewordedRecord.exists(run.run_dir)
    num_before, is_down[0] = len(server.requests), False
    assert cli(*command).code == 0
    assert len(server.requests) - num_before == 140


def test_a_model_needs_reword(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    result = cli("diagnose", trained(sound).run_dir, "--model", "http://host/v1#m")
    assert result.code == 2 and "--reword --model http://host/v1#m" in result.err


def test_raw_text_has_no_questions(cli: Cli, trained: Callable[..., FakeRun]) -> None:
    run = trained(sound)
    texts = [Sample(f"t{number}", text=f"text {number}") for number in range(20)]
    run.settings["train"] = {"method": "pretrain"}
    run.write(texts, texts, [], task="text")
    result = cli("diagnose", run.run_dir, "--runs-dir", run.runs_dir, "--no-probe", "--reword")
    assert result.code == 2 and "raw text" in result.err


# --- the figures ----------------------------------------------------------------------------------------------------


def split(seen: float, fall: float, half: float) -> RewordedSplit:
    return RewordedSplit(
        seen=seen, reworded=seen - fall, fall=fall, ci_low=fall - half, ci_high=fall + half, n=50, num_wordings=50,
        num_unchanged=0,
    )  # fmt: skip


def test_the_surplus_is_the_difference_of_two_falls() -> None:
    """Independent samples: its half-width is the root of the squares of theirs; asymmetric ends cross over."""
    from foretune.evaluate.reworded import _finding, _surplus

    found = _surplus(split(1.0, 0.4, 0.12), split(0.8, 0.1, 0.05))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((0.3, 0.17, 0.43))
    skewed = split(1.0, 0.4, 0.1).model_copy(update={"ci_high": 0.8})
    low_high = _surplus(skewed, split(0.8, 0.1, 0.0))
    assert (low_high.ci_low, low_high.ci_high) == pytest.approx((0.2, 0.7))
    assert _finding(split(1.0, 0.4, 0.12), split(0.8, 0.1, 0.05), 1.0) == "by_heart"
    # half of either score is lost: what scores little cannot fall as far
    assert _finding(split(1.0, 0.4, 0.05), split(0.2, 0.1, 0.05), 1.0) == "unclear"
    assert _finding(split(1.0, 0.05, 0.03), split(0.9, 0.04, 0.04), 1.0) == "even"
    assert _finding(split(0.08, 0.0, 0.01), split(0.1, 0.0, 0.01), 1.0) == "unclear"  # nothing that could be lost
