"""Endpoints as systems: faults of the web, gaps that are never scored 0, resuming, prices, and the judge."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from foretune.config.job import AdvancedEvaluate, EvaluateConfig
from foretune.errors import ConfigError, ServeError
from foretune.evaluate.endpoint import Endpoint, Refused, open_endpoint
from foretune.evaluate.hosted import hosted_models
from foretune.evaluate.journal import JOURNAL_FILE
from local_web import Reply

from .conftest import LABELS, ChatServer, said

Run = Any
Start = Callable[..., ChatServer]
ASKED = [{"role": "user", "content": "hello"}]


def opened(server: ChatServer, **settings: Any) -> Endpoint:
    return open_endpoint(server.spec(), AdvancedEvaluate(**settings))


def number_in(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].partition("thing ")[2].rstrip("?"))


def right(body: dict[str, Any], number: int) -> Reply:
    return said(LABELS[number_in(body) % 3])


def test_reply_with_tokens_price_and_key(chat_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = chat_server(lambda body, number: said("hi", read=1000, written=500))
    monkeypatch.setenv("MY_KEY", "secret")
    endpoint = opened(server, endpoint_keys=["MY_KEY"], endpoint_prices=["big=2,10"])
    reply = endpoint.reply(ASKED, max_tokens=7)
    assert (reply.text, reply.prompt_tokens, reply.answer_tokens) == ("hi", 1000, 500)
    assert reply.cost_usd == pytest.approx(0.002 + 0.005) and reply.seconds > 0
    headers, body = server.requests[0]
    assert headers["authorization"] == "Bearer secret"
    assert body == {"model": "big", "messages": ASKED, "temperature": 0, "max_tokens": 7}


@pytest.mark.parametrize(
    "fault",
    [
        Reply({"error": {"message": "slow down"}}, 429),
        Reply("boom", 500),
        Reply("<html>garbage", 200),
        Reply({"choices": []}, 200),
        Reply({"choices": [{"message": {"content": "cut"}}]}, cut=True),
    ],
    ids=["429", "500", "garbage", "no choices", "cut off"],
)
def test_passing_faults_are_tried_again(chat_server: Start, fault: Reply) -> None:
    server = chat_server(lambda body, number: fault if number < 3 else said("hi"))
    assert opened(server).reply(ASKED, max_tokens=5).text == "hi"
    assert len(server.requests) == 3


def test_timeout_is_tried_again(chat_server: Start) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.4 if number == 1 else 0)
        return said("hi")

    server = chat_server(answer)
    endpoint = Endpoint(f"{server.url}/v1", "big", timeout_seconds=0.1)
    assert endpoint.reply(ASKED, max_tokens=5).text == "hi"


def test_waits_as_long_as_it_is_told(chat_server: Start) -> None:
    server = chat_server(lambda body, number: Reply("busy", 429, {"Retry-After": "7"}) if number == 1 else said("hi"))
    slept: list[float] = []
    Endpoint(f"{server.url}/v1", "big", sleep=slept.append).reply(ASKED, max_tokens=5)
    assert slept == [7.0]
    server = chat_server(lambda body, number: Reply("busy", 429, {"Retry-After": "4000"}))
    with pytest.raises(ServeError, match="asks to wait 4000 s"):
        opened(server).reply(ASKED, max_tokens=5)


def test_refusals_name_what_was_said_and_never_the_key(chat_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    server = chat_server(lambda body, number: Reply({"error": {"message": "no such model"}}, 404))
    with pytest.raises(ServeError, match="status 404: no such model") as caught:
        opened(server, endpoint_keys=["MY_KEY"]).reply(ASKED, max_tokens=5)
    assert "secret" not in str(caught.value) and len(server.requests) == 1
    server = chat_server(lambda body, number: Reply({"error": {"message": "too long"}}, 400))
    with pytest.raises(Refused, match="too long"):
        opened(server).reply(ASKED, max_tokens=5)


def test_newer_models_take_another_limit_and_no_temperature(chat_server: Start) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        if "max_tokens" in body:
            return Reply({"error": {"message": "use max_completion_tokens instead"}}, 400)
        if "temperature" in body:
            return Reply({"error": {"message": "temperature is not supported"}}, 400)
        return said("hi")

    server = chat_server(answer)
    assert opened(server).reply(ASKED, max_tokens=5).text == "hi"
    assert server.requests[-1][1] == {"model": "big", "messages": ASKED, "max_completion_tokens": 5}


def test_malformed_settings_are_refused_at_once() -> None:
    for spec in ("https://host/v1", "host#model", "ftp://host#m", "https://host/v1#"):
        with pytest.raises(ConfigError, match="URL#model"):
            open_endpoint(spec, AdvancedEvaluate())
    with pytest.raises(ConfigError, match="MODEL=READ,WRITTEN"):
        open_endpoint("https://host/v1#m", AdvancedEvaluate(endpoint_prices=("m=2",)))
    with pytest.raises(ConfigError, match="named twice"):
        hosted_models(EvaluateConfig(endpoints=("https://h/v1#m", "https://h/v1#m", "https://h/v1#m")))


def test_key_of_a_host_goes_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "first")
    monkeypatch.setenv("TWO", "second")
    settings = AdvancedEvaluate(endpoint_keys=("a.example=ONE", "TWO"))
    assert open_endpoint("https://a.example/v1#m", settings).key == "first"
    assert open_endpoint("https://b.example/v1#m", settings).key == "second"
    monkeypatch.delenv("ONE")
    assert open_endpoint("https://a.example/v1#m", settings).key == ""


def with_endpoint(run: Run, *specs: str, **advanced: Any) -> None:
    run.settings["evaluate"]["endpoints"] = list(specs)
    run.settings["evaluate"]["advanced"].update(advanced)
    run.write_questions()


@pytest.mark.req("R174")
@pytest.mark.req("R179")
def test_endpoint_is_a_system_with_prompts_cost_and_latency(fake_run: Run, chat_server: Start) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        shown = len(body["messages"]) > 2
        return said(LABELS[number_in(body) % 3] if shown else "no idea", read=100, written=1)

    server = chat_server(answer)
    with_endpoint(fake_run, server.spec(), endpoint_prices=["big=1,1"])
    record = fake_run.evaluate()
    system = record.system("endpoint:big")
    assert system.metrics["accuracy"].value == 1.0 and system.num_shots > 0 and system.num_missing == 0
    assert system.cost_usd == pytest.approx(60 * 101e-6) and system.seconds_per_answer > 0
    tried = [row for row in record.prompt_choices if row["name"].startswith("endpoint:big/")]
    assert len(tried) == 2 and [row["chosen_as"] for row in tried].count("endpoint:big") == 1
    assert len(server.requests) == 60 + 2 * 12  # the test samples, and two prompts on validation alone
    rows = [row for row in fake_run.lines("answers.jsonl") if row["system"] == "endpoint:big"]
    assert len(rows) == 60 and all(row["cost_usd"] > 0 and row["seconds"] > 0 for row in rows)
    assert record.baseline == "base_few_shot"  # an endpoint is shown beside the verdict
    (claim,) = record.claims
    assert (claim.system, claim.delta.value, claim.n) == ("endpoint:big", 0.0, 60)
    assert claim.verdict != "better"


def test_endpoint_that_is_down_is_a_gap_and_the_run_goes_on(fake_run: Run, chat_server: Start) -> None:
    with_endpoint(fake_run, "http://127.0.0.1:9/v1#gone")
    record = fake_run.evaluate()
    assert record.verdict == "better"
    assert [gap.system for gap in record.gaps] == ["endpoint:gone"]
    assert "endpoint:gone" not in [system.name for system in record.systems] and not record.claims
    assert any("they are not scored" in warning for warning in record.warnings)


def test_missing_answers_are_asked_again_and_never_scored(fake_run: Run, chat_server: Start) -> None:
    down = {1003, 1004, 1005}

    def answer(body: dict[str, Any], number: int) -> Reply:
        return Reply({"error": {"message": "filtered"}}, 422) if number_in(body) in down else right(body, number)

    server = chat_server(answer)
    with_endpoint(fake_run, server.spec())
    record = fake_run.evaluate()
    system = record.system("endpoint:big")
    assert (system.num_missing, system.metrics["accuracy"].n, system.metrics["accuracy"].value) == (3, 57, 1.0)
    assert record.claims[0].n == 57 and "3 of 60 answers are missing" in system.gap
    assert (fake_run.run_dir / JOURNAL_FILE).exists()
    down.clear()
    before = len(server.requests)
    record = fake_run.evaluate()  # not a second look: the same evaluation goes on
    assert record.look == 1 and record.system("endpoint:big").num_missing == 0
    assert len(server.requests) == before + 3
    assert not (fake_run.run_dir / JOURNAL_FILE).exists()


def test_stops_asking_an_endpoint_that_died(fake_run: Run, chat_server: Start) -> None:
    server = chat_server(lambda body, number: right(body, number) if number <= 30 else Reply("down", 503))
    with_endpoint(fake_run, server.spec())
    record = fake_run.evaluate()
    system = record.system("endpoint:big")
    assert system.num_missing == 60 - (30 - 24)
    assert len(server.requests) == 30 + 3 * 4  # three failures in a row, four tries each, then no more


def test_killed_evaluation_pays_for_no_answer_twice(fake_run: Run, chat_server: Start) -> None:
    def answer(body: dict[str, Any], number: int) -> Reply:
        if number == 40 and not killed:
            killed.append(1)
            raise_later.append(1)
        return right(body, number)

    killed: list[int] = []
    raise_later: list[int] = []
    server = chat_server(answer)
    with_endpoint(fake_run, server.spec())

    def stop(what: str, done: int, total: int) -> None:
        if raise_later:
            raise_later.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fake_run.evaluate(on_progress=stop)
    fake_run.evaluate()
    assert len(server.requests) == 60 + 24


def test_local_answers_are_kept_part_by_part(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["advanced"]["batch_size"] = 8
    fake_run.write_questions()

    def stop(what: str, done: int, total: int) -> None:
        if what == "fine_tuned" and done > 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fake_run.evaluate(on_progress=stop)
    asked = len(fake_run.tuned.prompts)
    record = fake_run.evaluate()
    assert record.system("fine_tuned").metrics["accuracy"].value == 1.0
    assert len(fake_run.tuned.prompts) == asked + 60 - 24  # a batch, and twice as much after it


def judged(winner: Callable[[str, str], str]) -> Callable[[dict[str, Any], int], Reply]:
    def answer(body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][-1]["content"]
        first, second = (text.partition(f"[answer {side}]\n")[2].partition("\n")[0] for side in "AB")
        marks = {"helpfulness": 4, "policy": 5, "facts": 3, "tone": 9}
        document = {"A": marks, "B": {**marks, "helpfulness": 2}, "winner": winner(first, second)}
        return said(f"Sure: ```json\n{json.dumps(document)}\n```")

    return answer


@pytest.mark.req("R278")
def test_judge_asks_both_orders_and_never_decides(fake_run: Run, chat_server: Start) -> None:
    server = chat_server(judged(lambda first, second: "A" if second == "no idea" else "B"))
    fake_run.settings["evaluate"]["judge"] = server.spec("wise")
    fake_run.write_questions()
    record = fake_run.evaluate()
    judge = record.judge
    assert judge is not None
    assert (judge.wins, judge.losses, judge.ties, judge.n, judge.inconsistent) == (30, 0, 30, 60, 0)
    assert len(server.requests) == 60  # 30 pairs differ, each in both orders
    assert judge.ci_low > 0 and judge.position_share == 0.5
    assert {one.name: (one.candidate, one.baseline) for one in judge.criteria} == {
        "helpfulness": (3.0, 3.0),
        "policy": (5.0, 5.0),
        "facts": (3.0, 3.0),
    }  # a mark of 9 is none


def test_judge_that_follows_the_order_says_nothing(fake_run: Run, chat_server: Start) -> None:
    server = chat_server(judged(lambda first, second: "A"))
    fake_run.settings["evaluate"]["judge"] = server.spec("wise")
    fake_run.write_questions()
    judge = fake_run.evaluate().judge
    assert (judge.wins, judge.losses, judge.inconsistent, judge.position_share) == (0, 0, 30, 1.0)


def test_judge_that_answers_nonsense_is_told_the_form_once_more(fake_run: Run, chat_server: Start) -> None:
    wise = judged(lambda first, second: "A" if second == "no idea" else "B")

    def answer(body: dict[str, Any], number: int) -> Reply:
        again = "not of the form asked for" in body["messages"][-1]["content"]
        if again:
            assert body["messages"][-2] == {"role": "assistant", "content": "I like both"}
            return wise({**body, "messages": body["messages"][:-2]}, number)
        return said("I like both") if number % 10 == 0 else wise(body, number)

    server = chat_server(answer)
    fake_run.settings["evaluate"]["judge"] = server.spec("wise")
    fake_run.write_questions()
    judge = fake_run.evaluate().judge
    assert (judge.wins, judge.losses, judge.num_missing) == (30, 0, 0) and len(server.requests) > 60


def test_judge_that_answers_nonsense_or_dies_leaves_a_gap(fake_run: Run, chat_server: Start) -> None:
    server = chat_server(lambda body, number: said("I like both") if number < 5 else Reply("x", 500))
    fake_run.settings["evaluate"]["judge"] = server.spec("wise")
    fake_run.write_questions()
    record = fake_run.evaluate()
    assert record.verdict == "better"
    judge = record.judge
    assert (judge.wins, judge.losses) == (0, 0) and judge.num_missing >= 28
    assert "pairs are missing" in judge.gap and any("judge:" in warning for warning in record.warnings)


def test_judge_that_spoke_nonsense_is_asked_again_by_the_next_evaluation(fake_run: Run, chat_server: Start) -> None:
    wise = judged(lambda first, second: "A" if second == "no idea" else "B")
    is_mended: list[bool] = []
    server = chat_server(lambda body, number: wise(body, number) if is_mended else said("I like both"))
    fake_run.settings["evaluate"]["judge"] = server.spec("wise")
    fake_run.write_questions()
    assert fake_run.evaluate().judge.num_missing == 30
    is_mended.append(True)
    record = fake_run.evaluate()
    assert (record.judge.num_missing, record.judge.wins, record.look) == (0, 30, 1)
