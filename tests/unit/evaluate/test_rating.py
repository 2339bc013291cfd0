"""Blind rating: nothing tells the models, sides follow a hash, votes are kept, counted and corrected for."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foretune.errors import ConfigError, DataError
from foretune.evaluate.rating import (
    Pair,
    Queue,
    calibrated,
    is_candidate_first,
    open_queue,
    rating_item,
    summarise,
    waiting,
)
from foretune.records.ratings import RATINGS_FILE, Rating, RatingsRecord, add_ratings, read_ratings

Run = Any
RUBRIC = ("helpfulness", "policy", "facts", "tone")


def queue_of(num_pairs: int) -> Queue:
    pairs = tuple(Pair(f"s{number}", f"question {number}", "good", "bad") for number in range(num_pairs))
    return Queue("run-1", "fine_tuned", "base_few_shot", 0.02, pairs, 3)


def vote(number: int, winner: Any, rater: str = "anna", **marks: int) -> Rating:
    return Rating(
        sample_id=f"s{number}", rater=rater, shown_first="candidate", winner=winner, candidate_marks=marks,
        baseline_marks=marks,
    )  # fmt: skip


@pytest.fixture
def rated_run(fake_run: Run) -> Path:
    fake_run.write_questions()
    fake_run.evaluate()
    folder: Path = fake_run.run_dir
    return folder


@pytest.mark.req("R281")
def test_queue_holds_the_pairs_that_differ(rated_run: Path) -> None:
    queue = open_queue(rated_run)
    assert len(queue.pairs) == 30 and queue.num_identical == 30
    assert all(pair.baseline == "no idea" for pair in queue.pairs)
    numbers = [int(pair.sample_id[1:]) for pair in queue.pairs]
    assert numbers != sorted(numbers)  # in no order that says anything
    assert "name the colour" not in queue.pairs[0].question


def test_sides_are_fair_stay_and_differ_by_rater() -> None:
    firsts = [is_candidate_first("run-1", f"s{number}", "anna") for number in range(2000)]
    assert 0.46 < sum(firsts) / 2000 < 0.54
    assert firsts == [is_candidate_first("run-1", f"s{number}", "anna") for number in range(2000)]
    others = [is_candidate_first("run-1", f"s{number}", "ben") for number in range(2000)]
    assert 0.46 < sum(a == b for a, b in zip(firsts, others, strict=True)) / 2000 < 0.54


def test_fewest_votes_come_first() -> None:
    queue = queue_of(4)
    left = waiting(queue, [vote(0, "tie"), vote(1, "tie", "ben"), vote(3, "tie", "ben")], "anna")
    assert [pair.sample_id for pair in left] == ["s2", "s1", "s3"]


@pytest.mark.req("R274")
@pytest.mark.req("R275")
@pytest.mark.req("R276")
@pytest.mark.req("R277")
def test_votes_are_summed_up_with_an_interval() -> None:
    queue = queue_of(60)
    ratings = [
        vote(n, "candidate" if n % 5 else "baseline", helpfulness=4, policy=5, facts=2, tone=3) for n in range(50)
    ]
    record = summarise(queue, ratings)
    assert (record.wins, record.losses, record.num_rated, record.verdict) == (40, 10, 50, "better")
    assert record.preference == pytest.approx(0.6) and record.ci_low > 0.3 and record.votes_needed == 0
    assert {one.name: one.candidate for one in record.criteria} == {
        "helpfulness": 4,
        "policy": 5,
        "facts": 2,
        "tone": 3,
    }
    assert record.agreement is None and "no pair has two raters" in record.agreement_said


def test_votes_still_needed() -> None:
    few = summarise(queue_of(60), [vote(0, "candidate")])
    assert few.votes_needed == 5 and few.verdict == "inconclusive"
    unclear = summarise(queue_of(500), [vote(n, "candidate" if n % 7 < 4 else "baseline") for n in range(21)])
    assert unclear.verdict == "inconclusive" and unclear.votes_needed is not None and unclear.votes_needed > 50


def test_null_votes_are_rarely_a_verdict() -> None:
    draw = random.Random(11)
    wrong = 0
    for _ in range(400):
        ratings = [vote(n, draw.choice(("candidate", "baseline"))) for n in range(40)]
        wrong += summarise(queue_of(40), ratings).verdict in ("better", "worse")
    assert wrong / 400 < 0.075


def test_several_raters_agree_or_not() -> None:
    queue = queue_of(12)
    same = [vote(n, "candidate" if n % 2 else "baseline", rater) for n in range(12) for rater in ("anna", "ben")]
    assert summarise(queue, same).agreement == pytest.approx(1.0)
    apart = [
        vote(n, "candidate" if (n % 2) ^ (r == "ben") else "baseline", r) for n in range(12) for r in ("anna", "ben")
    ]
    record = summarise(queue, apart)
    assert record.agreement is not None and record.agreement < 0
    assert record.preference == 0.0 and record.num_rated == 12 and record.num_votes == 24


@pytest.mark.req("R302")
def test_style_without_substance_is_named() -> None:
    uneven = [vote(n, "tie", tone=5, facts=1 if n % 2 else 4, helpfulness=5) for n in range(20)]
    notes = summarise(queue_of(20), uneven).notes
    assert len(notes) == 1 and "consistent style, inconsistent quality" in notes[0] and "facts" in notes[0]
    even = [vote(n, "tie", tone=3 + n % 3, facts=3 + (n + 1) % 3) for n in range(21)]
    assert summarise(queue_of(21), even).notes == ()


def test_judge_is_held_against_people() -> None:
    scores = {f"s{n}": 1.0 for n in range(300)}  # a judge that always prefers the candidate
    human = {f"s{n}": 1.0 if n % 2 else -1.0 for n in range(120)}
    trust = calibrated(scores, human)
    assert trust.num_labels == 120 and trust.corrected is not None
    assert abs(trust.corrected.value) < 0.05 and trust.corrected.ci_low < 0 < trust.corrected.ci_high
    assert trust.kappa == pytest.approx(0.0)
    assert calibrated(scores, {"s1": 1.0}).corrected is None


def test_ratings_are_kept_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    add_ratings(tmp_path, vote(0, "candidate"))
    add_ratings(tmp_path, vote(1, "tie"), vote(0, "baseline"))
    assert {(rating.sample_id, rating.winner) for rating in read_ratings(tmp_path)} == {
        ("s0", "baseline"),
        ("s1", "tie"),
    }
    path = tmp_path / RATINGS_FILE
    path.write_bytes(path.read_bytes() + b'{"sample_id": "s2", "ra')
    assert len(read_ratings(tmp_path)) == 2
    add_ratings(tmp_path, vote(3, "tie"))
    with pytest.raises(DataError, match=":4: not a rating"):
        read_ratings(tmp_path)


def typed(keys: str) -> Callable[[], str]:
    pressed: Iterator[str] = iter(keys)
    return lambda: next(pressed, "")


def test_terminal_shows_no_model_and_keeps_votes(rated_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from foretune.cli.rate import rate

    answer = rate(rated_run, "anna", (), read_key=typed("axbst"))  # a, a key that is none, b, skip, equal, end
    shown = capsys.readouterr().err
    assert "answer A" in shown and "pair 1 of 30" in shown
    assert not re.search("fine.?tuned|base_|few.?shot|candidate|baseline|pebble|colours-001", shown, re.IGNORECASE)
    ratings = read_ratings(rated_run)
    assert len(ratings) == 3 and answer.document["num_new"] == 3
    first, second = sorted(ratings, key=lambda one: one.winner == "tie")[:2]
    queue = open_queue(rated_run)
    for one, key in zip((r for r in ratings), "abt", strict=True):
        expected = {"a": one.shown_first, "t": "tie"}.get(key)
        expected = expected or ("baseline" if one.shown_first == "candidate" else "candidate")
        assert one.winner == expected
        assert (one.shown_first == "candidate") == is_candidate_first(queue.run_id, one.sample_id, "anna")
    assert RatingsRecord.read(rated_run).num_votes == 3 and first and second
    assert "wins" not in answer.document["ratings"]  # whoever goes on rating stays blind
    assert not any(re.search("fine.?tuned|base_", str(line)) for line in answer.shown)
    through = rate(rated_run, "zoe", (), read_key=typed("a" * 30))
    assert "wins" in through.document["ratings"] and "fine_tuned" in str(through.shown[0])
    again = rate(rated_run, "anna", (), read_key=typed("q"))
    assert again.document["num_new"] == 0 and "pair 1 of 27" in capsys.readouterr().err


def test_marks_by_the_rubric(rated_run: Path) -> None:
    from foretune.cli.rate import rate

    rate(rated_run, "anna", RUBRIC, read_key=typed("a" + "4321" + "9" + "1111" + "t12q"))
    (rating,) = read_ratings(rated_run)  # the second was stopped in its marks: no half vote
    marks = [rating.candidate_marks, rating.baseline_marks]
    assert sorted(marks, key=lambda m: m["helpfulness"]) == [
        dict.fromkeys(RUBRIC, 1),
        {"helpfulness": 4, "policy": 3, "facts": 2, "tone": 1},
    ]


def test_table_for_outside_raters_and_back(rated_run: Path, tmp_path: Path) -> None:
    from foretune.cli.rate import export_ratings, import_ratings

    target = tmp_path / "pairs.csv"
    export_ratings(rated_run, "ben", RUBRIC, target)
    text = target.read_text(encoding="utf-8-sig")
    assert not re.search("fine.?tuned|base_|candidate|baseline|colours-001|q10", text, re.IGNORECASE)
    with pytest.raises(ConfigError, match="exists already"):
        export_ratings(rated_run, "ben", RUBRIC, target)
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 30
    for row in rows[:12]:
        row["better"] = "b" if row["answer_a"] == "no idea" else "a"
        row["a_facts"], row["b_facts"] = ("1", "5") if row["better"] == "b" else ("5", "1")
    filled = tmp_path / "filled.csv"
    with filled.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")  # as a spreadsheet of another country saves it
        writer.writeheader()
        writer.writerows(rows)
    answer = import_ratings(rated_run, RUBRIC, filled)
    assert answer.document["num_new"] == 12 and answer.document["num_empty"] == 18
    record = RatingsRecord.read(rated_run)
    assert (record.wins, record.losses, record.raters, record.verdict) == (12, 0, ("ben",), "better")
    assert (record.criteria[0].candidate, record.criteria[0].baseline) == (5.0, 1.0)


def test_faults_of_a_table_are_all_named_and_nothing_is_taken(rated_run: Path, tmp_path: Path) -> None:
    from foretune.cli.rate import import_ratings

    item = rating_item("colours-001", open_queue(rated_run).pairs[0].sample_id, "ben")
    path = tmp_path / "bad.csv"
    path.write_text(
        f"item,rater,better,a_tone\nnope,ben,a,\n{item},ben,left,\n{item},,a,\n{item},ben,a,7\n{item},ben,a,\n"
    )
    with pytest.raises(DataError) as caught:
        import_ratings(rated_run, RUBRIC, path)
    for said in (":2: item 'nope'", ":3: better is 'left'", ":4: no rater", ":5: a_tone is '7'"):
        assert said in str(caught.value)
    assert read_ratings(rated_run) == []
    path.write_text(f"item,rater,better\n{item},eve,a\n")  # whose A and B may stand the other way round
    with pytest.raises(DataError, match="for rater 'eve', whom the table must be written for"):
        import_ratings(rated_run, RUBRIC, path)
    path.write_text("item,better\n1,a\n")
    with pytest.raises(DataError, match="no column rater"):
        import_ratings(rated_run, RUBRIC, path)


def test_judge_with_a_bias_is_mended_by_a_hundred_votes() -> None:
    draw, wrong, naive = random.Random(4), 0, 0
    for _ in range(250):
        truth = {str(n): draw.choice((1.0, -1.0)) for n in range(1000)}
        judge = {name: value if draw.random() < 0.75 else -value for name, value in truth.items()}
        judge = {name: 1.0 if draw.random() < 0.08 else value for name, value in judge.items()}  # prefers a style
        labelled = draw.sample(list(truth), 100)
        found = calibrated(judge, {name: truth[name] for name in labelled}).corrected
        assert found is not None
        wrong += found.ci_low > 0 or found.ci_high < 0
        naive += abs(sum(judge.values()) / 1000) > 1.96 / 1000**0.5
    assert naive / 250 > 0.5 and wrong / 250 < 0.06 + 2 * (0.06 * 0.94 / 250) ** 0.5
