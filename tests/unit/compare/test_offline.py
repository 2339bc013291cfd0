"""Runs on the same samples: paired, corrected, with holes named, settings beside the scores, and the online gap."""

# SPDX-License-Identifier: Apache-2.0
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from foretune.compare.compare import compare
from foretune.compare.outcomes import outcomes_of_rows
from foretune.compare.slices import discoveries
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.evaluation import Delta, EvaluationRecord, MetricValue, SystemResult
from foretune.records.run import ResolvedRecord


def scored(n, rate, seed=0):
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


def run(root, name, systems, *, rank=8, expected=None, ids=None, look=1, extra=None):
    """A run folder whose systems have the given 0/1 scores."""
    folder = root / name
    n = len(next(iter(systems.values())))
    metric = MetricValue(value=0.5, ci_low=0.4, ci_high=0.6, n=n, method="wilson")
    EvaluationRecord(
        run_id=name, dataset_version="v1", split="test", look=look, primary_metric="accuracy", n=n,
        systems=tuple(SystemResult(name=s, prompt="", metrics={"accuracy": metric}, seconds=1.0) for s in systems),
        baseline=next(iter(systems)), candidate=list(systems)[-1],
        delta=Delta(value=0.0, ci_low=-0.1, ci_high=0.1, p_value=1.0, method="x"),
        smallest_visible_difference=0.1, n_needed=None, margin=0.02, verdict="inconclusive", reason="",
    ).write(folder)  # fmt: skip
    ResolvedRecord(
        run_id=name, created="2026-06-01T00:00:00Z", foretune_version="0", folder=".", origins={},
        job={"base": "pebble", "train": {"rank": rank, "epochs": 3.0}},
    ).write(folder)  # fmt: skip
    with (folder / "answers.jsonl").open("w") as file:
        for system, scores in systems.items():
            for row, score in enumerate(scores):
                values = {"accuracy": score, **{key: column[row] for key, column in (extra or {}).items()}}
                answer = {"sample_id": (ids or range(n))[row], "system": system, "place": "d:1", "prediction": "p",
                          "messages": [{"role": "user", "content": "q" * (row % 9 + 1)}],
                          "expected": (expected or ["yes", "no"] * n)[row], "scores": values}  # fmt: skip
                file.write(json.dumps(answer) + "\n")
    return folder


def test_two_runs_are_compared_by_sample(tmp_path):
    ours = scored(400, 0.5)
    theirs = np.maximum(ours, scored(400, 0.25, 1))
    record = compare([run(tmp_path, "a", {"tuned": ours}), run(tmp_path, "b", {"tuned": theirs}, rank=64)])
    claim = record.offline.claims[0]
    assert (claim.baseline, claim.candidate, claim.verdict) == ("a", "b", "better")
    assert claim.value == pytest.approx(theirs.mean() - ours.mean()) and "McNemar" in claim.method
    assert [row.settings for row in record.offline.variants] == [{"train.rank": 8}, {"train.rank": 64}]
    assert record.offline.slices and not any(found.flagged for found in record.offline.slices if found.value <= 0)


@pytest.mark.req("R307")
def test_samples_alone_are_promising_never_proven(tmp_path):
    record = compare([run(tmp_path, "a", {"base": scored(300, 0.3), "tuned": np.ones(300)})])
    assert record.state == "promising" and "split traffic" in record.headline
    assert (record.offline.claims[0].baseline, record.offline.claims[0].candidate) == ("base", "tuned")


def test_several_candidates_share_the_level(tmp_path):
    base = scored(200, 0.5)
    runs = [run(tmp_path, f"r{number}", {"tuned": scored(200, 0.5, number)}) for number in range(1, 4)]
    record = compare([run(tmp_path, "r0", {"tuned": base}), *runs])
    primary = [claim for claim in record.offline.claims if claim.is_primary]
    assert len(primary) == 3
    assert all(claim.p_adjusted >= claim.p_value for claim in primary)
    two = compare([tmp_path / "r0", tmp_path / "r1"]).offline.claims[0]
    assert primary[0].ci_high - primary[0].ci_low > two.ci_high - two.ci_low


def test_other_metrics_are_claims_without_a_verdict(tmp_path):
    base, many = scored(200, 0.5), {f"m{k}": scored(200, 0.5, k).tolist() for k in range(5)}
    others = {f"m{k}": scored(200, 0.5, 50 + k).tolist() for k in range(5)}
    runs = [run(tmp_path, "a", {"tuned": base}, extra=many), run(tmp_path, "b", {"tuned": base}, extra=others)]
    secondary = [claim for claim in compare(runs).offline.claims if not claim.is_primary]
    assert len(secondary) == 5 and all(claim.verdict is None for claim in secondary)
    assert not any(claim.supported for claim in secondary)


def test_a_hole_gives_no_verdict(tmp_path):
    full = run(tmp_path, "a", {"tuned": scored(300, 0.3)})
    holed = run(tmp_path, "b", {"tuned": np.ones(250)})
    record = compare([full, holed])
    assert record.offline.claims[0].verdict == "inconclusive" and "b lacks 50" in record.offline.claims[0].reason
    assert record.offline.missing == {"a": 0, "b": 50} and record.offline.n == 250


def test_a_score_that_is_null_is_missing_not_zero(tmp_path):
    theirs = [None if row < 5 else 1.0 for row in range(300)]
    record = compare([run(tmp_path, "a", {"tuned": np.zeros(300)}), run(tmp_path, "b", {"tuned": theirs})])
    assert record.offline.missing["b"] == 5 and record.offline.claims[0].n == 295
    assert record.offline.claims[0].value == 1.0


def test_repeated_answers_are_one_observation(tmp_path):
    ids = [row // 5 for row in range(500)]
    same = ["yes"] * 500
    runs = [
        run(tmp_path, name, {"tuned": scored(500, 0.5, seed)}, ids=ids, expected=same)
        for name, seed in (("a", 0), ("b", 1))
    ]
    assert compare(runs).offline.n == 100


def test_groups_widen_the_interval(tmp_path):
    ours, theirs = scored(400, 0.5), np.repeat(scored(40, 0.7, 3), 10)
    runs = [run(tmp_path, "a", {"tuned": ours}), run(tmp_path, "b", {"tuned": theirs})]
    grouped = compare(runs, groups={str(row): f"g{row // 10}" for row in range(400)}).offline.claims[0]
    assert "40 groups" in grouped.method
    alone = compare(runs).offline.claims[0]
    assert grouped.ci_high - grouped.ci_low > 1.2 * (alone.ci_high - alone.ci_low)


def test_a_second_look_costs(tmp_path):
    runs = [run(tmp_path, "a", {"tuned": scored(200, 0.5)}), run(tmp_path, "b", {"tuned": scored(200, 0.6, 1)}, look=2)]
    assert any("look 2" in warning for warning in compare(runs).offline.warnings)


def test_small_slices_are_counted_not_tested(tmp_path):
    runs = [run(tmp_path, "a", {"tuned": scored(100, 0.5)}), run(tmp_path, "b", {"tuned": scored(100, 0.5, 1)})]
    record = compare(runs, slices={str(row): "rare" if row < 10 else "usual" for row in range(100)})
    assert [found.slice for found in record.offline.slices] == ["usual"] and record.offline.slices_too_small == 1


def test_false_discoveries_are_held_down():
    # statsmodels 0.15.0 multipletests(method="fdr_bh")
    assert discoveries([0.001, 0.012, 0.03, 0.04, 0.2, 0.021]) == [True, True, True, True, False, True]
    assert discoveries([]) == []


@pytest.mark.req("R289")
@pytest.mark.req("R314")
def test_offline_and_online_side_by_side(tmp_path):
    runs = run(tmp_path, "a", {"base": scored(300, 0.5), "tuned": np.maximum(scored(300, 0.5), scored(300, 0.3, 9))})
    rng, start = np.random.default_rng(0), datetime(2026, 6, 1, tzinfo=UTC)
    rows = [
        (n, {"time": (start + timedelta(days=n / 300)).isoformat(), "user": f"u{n}",
             "variant": ("base", "tuned")[n % 2], "task_completion": int(rng.random() < 0.5)})
        for n in range(14 * 300)
    ]  # fmt: skip
    record = compare([runs], outcomes=outcomes_of_rows(rows), now=start + timedelta(days=14))
    assert record.state == "not_proven"
    assert "offline accuracy +0.15" in record.gap or "offline accuracy +0.1" in record.gap
    assert record.gap.endswith("the gain on the samples has not been shown in production.")


def test_clear_words(tmp_path):
    a = run(tmp_path, "a", {"tuned": scored(50, 0.5)})
    b = run(tmp_path, "b", {"tuned": scored(50, 0.5)}, expected=["other"] * 50)
    c = run(tmp_path, "c", {"tuned": scored(50, 0.5)}, ids=range(900, 950))
    with pytest.raises(DataError, match="not the same data"):
        compare([a, b])
    with pytest.raises(DataError, match="share no sample"):
        compare([a, c])
    with pytest.raises(NotFound, match="no answers of system 'nobody'"):
        compare([a, f"{a}:nobody"])
    with pytest.raises(ConfigError, match="given twice"):
        compare([a, a])
    with pytest.raises(DataError, match="no score of 'bleu'"):
        run(tmp_path, "d", {"tuned": [None] * 50})
        compare([tmp_path / "d", a], metric="bleu")


@pytest.mark.req("R287")
def test_a_metric_chosen_afterwards_is_a_lead_and_no_verdict(tmp_path):
    systems = {"base": np.zeros(200), "tuned": np.ones(200)}
    folder = run(tmp_path, "a", systems, extra={"rouge_l": np.tile([0.2, 0.9], 100)})
    fixed = compare([folder], metric="accuracy")
    assert fixed.state == "promising" and fixed.offline.chosen_after == ""
    other = tmp_path / "other"
    run(other, "a", systems, extra={"other": np.zeros(200)})
    (other / "a" / "answers.jsonl").write_text(
        (other / "a" / "answers.jsonl").read_text().replace('"other": 0.0', '"other": 0.5', 100)
    )
    later = compare([other / "a"], metric="other")
    assert later.state == "not_proven" and later.offline.chosen_after == "accuracy"
    assert "A lead, no verdict: accuracy was fixed before training, other was not." in later.headline
    with pytest.raises(DataError, match="no score of 'none'"):
        compare([folder], metric="none")


def test_the_headline_tells_of_the_candidate_that_won(tmp_path):
    systems = {"base": scored(200, 0.5), "worse": np.zeros(200), "tuned": np.ones(200)}
    folder = run(tmp_path, "a", systems)
    record = compare([f"{folder}:base", f"{folder}:worse", folder])
    assert record.state == "promising" and record.headline.startswith("tuned against base")
