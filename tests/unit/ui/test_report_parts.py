"""The parts of the report that say how firm the verdict is, what was set, what it left, and what the data are."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from foretune.config import JobConfig
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import Answer, Delta, EvaluationRecord, SystemGap
from foretune.records.events import EventLog
from foretune.records.ratings import RatingsRecord
from foretune.records.run import ResolvedRecord
from foretune.ui.evaluated import systems_view
from foretune.ui.report import render_report
from foretune.ui.run_folder import read_run_folder
from foretune.ui.sections import badges, data_view
from foretune.ui.settings import BASIC, settings_view
from foretune.ui.trained import model_facts
from foretune.ui.verdicts import slices_view, verdict_changes


def judged(num_both: int, num_mended: int, num_broken: int, num_wrong: int, expected: str = "yes") -> list[Answer]:
    """Answers of both systems with these counts of outcomes."""
    outcomes = [(1, 1)] * num_both + [(0, 1)] * num_mended + [(1, 0)] * num_broken + [(0, 0)] * num_wrong
    return [
        Answer(
            sample_id=f"{expected}-{row}",
            system=system,
            place=f"f:{row}",
            messages=({"role": "user", "content": "q" * (10 + row % 40)},),
            prediction="",
            expected=expected,
            scores={"exact_match": float(score)},
        )
        for row, pair in enumerate(outcomes)
        for system, score in zip(("base_few_shot", "fine_tuned"), pair, strict=True)
    ]


@pytest.mark.req("R267")
def test_systems_are_ranked_by_the_metric_that_decides_not_by_the_loss(c: ModuleType) -> None:
    systems = []
    for name, score, loss in (("base_zero_shot", 0.9, 3.0), ("base_few_shot", 0.5, 2.0), ("fine_tuned", 0.7, 1.0)):
        one = c.system(name, score)
        value = one.metrics["exact_match"].model_copy(update={"value": loss, "ci_low": loss, "ci_high": loss})
        systems.append(one.model_copy(update={"metrics": {**one.metrics, "eval_loss": value}}))
    view = systems_view(c.evaluation(systems=tuple(systems)))
    assert [row.value for row in view.rows] == ["90 %", "70 %", "50 %"]
    assert view.columns == tuple(row.title for row in view.rows)
    (cells,) = [cells for name, cells in view.table if name == "eval loss"]
    assert [value for value, _ in cells] == ["3", "1", "2"]


def test_the_flips_that_turn_a_verdict_are_the_fewest(c: ModuleType) -> None:
    from foretune.stats.paired import compare_paired

    answers = judged(40, 30, 5, 25)
    (line, *_) = verdict_changes(c.evaluation(verdict="better"), answers)
    found = re.match(r"(\d+) right answers of the fine-tuned model judged wrong instead", line)
    assert found is not None and "no longer better" in line
    pairs = [(1.0, 1.0)] * 40 + [(0.0, 1.0)] * 30 + [(1.0, 0.0)] * 5 + [(0.0, 0.0)] * 25

    def lower(flips: int) -> float:
        before = [before for before, _ in pairs]
        after = [0.0 if 40 <= row < 40 + flips else score for row, (_, score) in enumerate(pairs)]
        return compare_paired(before, after, "binary").ci_low

    count = int(found[1])
    assert lower(count) <= 0 < lower(count - 1)


def test_every_verdict_says_what_would_change_it(c: ModuleType) -> None:
    delta = Delta(value=0.02, ci_low=-0.05, ci_high=0.09, p_value=0.6, method="McNemar mid-p")
    record = c.evaluation(verdict="inconclusive", delta=delta, n_needed=900)
    lines = verdict_changes(record, judged(40, 11, 9, 40))
    assert "wrong answers of the fine-tuned model judged right instead" in lines[0] and lines[0].endswith("better.")
    assert lines[1] == "About 900 test samples instead of 120, if the difference stays so."
    assert any("below 12 points would mostly go unseen" in line for line in lines)
    assert any("judged at 97.5 % instead of 95 %" in line for line in lines)
    assert any("20 answers wait for a person's rating" in line for line in lines)
    worse = verdict_changes(c.evaluation(verdict="worse"), judged(20, 3, 40, 20))
    assert worse[0].endswith("no longer worse.")
    assert not any("judged right" in line for line in verdict_changes(record, []))


def test_slices_find_where_it_got_worse_and_leave_small_ones_out(c: ModuleType) -> None:
    answers = judged(20, 60, 2, 10, "refund") + judged(10, 2, 50, 10, "late") + judged(5, 3, 1, 1, "rare")
    view = slices_view(c.evaluation(), answers)
    assert view is not None
    named = {row.name: row for row in view.rows}
    assert named["expected = late"].words == "worse" and named["expected = refund"].words == "better"
    assert view.rows[0].name == "expected = late" and named["expected = late"].n == "72"
    assert "expected = rare" not in named and "1 slice of fewer than 30 samples" in view.too_small
    assert slices_view(c.evaluation(), []) is None
    assert slices_view(c.evaluation(), judged(3, 2, 0, 1)) is None


def test_slices_of_graded_scores_are_compared_as_graded(c: ModuleType) -> None:
    answers = [
        row.model_copy(update={"scores": {"token_f1": 0.25 + 0.5 * row.scores["exact_match"]}})
        for row in judged(20, 60, 2, 10, "refund") + judged(20, 60, 2, 10, "late")
    ]
    view = slices_view(c.evaluation(primary_metric="token_f1"), answers)
    assert view is not None and view.metric == "token F1"
    assert {row.words for row in view.rows} == {"better"}


def test_the_page_shows_slices_and_what_would_change_the_verdict(run_dir: Path) -> None:
    page = render_report(read_run_folder(run_dir))
    assert 'href="#changes"' in page and 'href="#slices"' in page
    assert "question up to" in page and "judged wrong instead" in page
    verdict, changes, slices = (page.index(f'id="{name}"') for name in ("verdict", "changes", "slices"))
    assert verdict < changes < slices


@pytest.mark.req("R214")
def test_at_most_eight_settings_are_shown_the_rest_is_folded(c: ModuleType, run_dir: Path) -> None:
    record = c.resolved()
    record = record.model_copy(update={"origins": {"train.epochs": "project", "train.advanced.patience": "flag"}})
    view = settings_view(record)
    assert len(view.basic) == len(BASIC) <= 8
    assert {setting.name for setting in view.basic} >= {"base", "train.learning_rate", "train.epochs"}
    assert view.advanced[0].name == "train.advanced.patience" and view.advanced[0].origin == "flag"
    shown = {setting.name for setting in (*view.basic, *view.advanced)}
    assert len(shown) == len(list(leaves(JobConfig().model_dump(mode="json")))) - 1  # all but the name
    record.write(run_dir)
    page = render_report(read_run_folder(run_dir))
    section = page[page.index('<section id="settings">') :]
    assert section.index("Learning rate") < section.index("<summary>Advanced") < section.index("weight_decay")


def leaves(values: dict[str, object]) -> list[str]:
    """The names of all fields of a job."""
    names: list[str] = []
    for name, value in values.items():
        names += leaves(value) if isinstance(value, dict) else [name]
    return names


def test_a_derived_setting_shows_what_was_derived(c: ModuleType) -> None:
    record = c.resolved().model_copy(update={"derived": {"primary_metric": "field_f1 (by what the targets look like)"}})
    values = {setting.name: setting.value for setting in settings_view(record).basic}
    assert values["evaluate.primary_metric"] == "field_f1 (by what the targets look like)"
    assert values["train.learning_rate"] == "by method" and values["train.rank"] == "16"
    assert values["data.path"] == "not set" and values["base"] == "pebble"
    (metric,) = [one for one in settings_view(c.resolved()).basic if one.name == "evaluate.primary_metric"]
    assert metric.value == "exact_match"  # fixed before training


@pytest.mark.req("R129")
def test_before_training_the_data_come_before_plan_and_settings(run_dir: Path) -> None:
    for name in ("training", "evaluation", "diagnosis"):
        (run_dir / f"{name}.json").unlink()
    titles = re.findall(r"<h2>(.*?)</h2>", render_report(read_run_folder(run_dir)))
    assert titles[:3] == ["Data", "Plan", "Settings"]


@pytest.mark.req("R253")
def test_a_badge_beside_the_curves_says_what_the_diagnosis_found(c: ModuleType, run_dir: Path) -> None:
    run = read_run_folder(run_dir)
    assert badges(run) == [("lost", "overfitting"), ("lost", "forgetting")]
    page = render_report(run)
    curves = page[page.index('<section id="curves">') :]
    assert curves.index("diagnosis-badge") < curves.index("overfitting") < curves.index('<svg class="chart loss"')
    DiagnosisRecord(run_id="r", causes=(), checked=("overfitting",)).write(run_dir)
    assert badges(read_run_folder(run_dir)) == [("gained", "nothing found")]
    (run_dir / "diagnosis.json").unlink()
    assert badges(read_run_folder(run_dir)) == [("open", "not diagnosed yet")]


@pytest.mark.req("R253")
@pytest.mark.req("R254")
def test_a_run_under_way_shows_both_losses_so_far(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("train_start", step=0, planned_steps=50)
        for step in range(1, 21):
            log.add("step", step=step, loss=2.0 - step * 0.03)
            if step % 5 == 0:
                log.add("eval", step=step, eval_loss=2.1 - step * 0.02, seconds=0.1, best=True)
    run = read_run_folder(tmp_path)
    assert badges(run) == [("open", "not diagnosed yet")]
    page = render_report(run)
    curves = page[page.index('<section id="curves">') :]
    assert 'class="curve train"' in curves and 'class="curve validation"' in curves and "20 of 50" in curves


@pytest.mark.req("R248")
@pytest.mark.req("R191")
def test_trained_share_and_size_are_told_before_training(run_dir: Path) -> None:
    (run_dir / "training.json").unlink()
    facts = model_facts(read_run_folder(run_dir))
    assert facts == ("2.79 %", "147.5 k of 5.3 M parameters, LoRA, will be saved in about 589.8 kB")
    assert "will be saved in about 589.8 kB" in render_report(read_run_folder(run_dir)).replace("\u00a0", " ")


@pytest.mark.req("R197")
def test_a_soft_prompt_is_small_before_and_after(c: ModuleType, run_dir: Path) -> None:
    update = {"method": "prompt", "trainable_parameters": 16 * 4096}
    c.plan().model_copy(update=update).write(run_dir)
    c.training().model_copy(update=update).write(run_dir)
    (run_dir / "adapter" / "adapter_model.safetensors").write_bytes(bytes(262_300))
    facts = model_facts(read_run_folder(run_dir))
    assert facts is not None
    assert facts[1].endswith("soft prompt, saved in 262.3 kB (predicted 262.1 kB)")


@pytest.mark.req("R266")
def test_memory_used_stands_beside_memory_there(run_dir: Path) -> None:
    page = render_report(read_run_folder(run_dir))
    card = page[page.index("Peak memory") :][:2500]
    assert "1.26\u00a0GB" in card and "7.4 GB" in card


def test_a_report_without_the_rows_shows_what_the_records_say(run_dir: Path) -> None:
    view = data_view(read_run_folder(run_dir))
    assert view is not None
    assert [finding.finding.id for finding in view.findings] == ["DATA012", "DATA031"]
    assert view.lengths[0].title == "Whole row: rows by tokens" and len(view.lengths) == 1
    assert view.languages == () and view.findings[0].pairs == ()
    assert EvaluationRecord.exists(run_dir) and ResolvedRecord.exists(run_dir)


def test_a_system_without_an_answer_stands_in_the_forest_without_a_score(c: ModuleType) -> None:
    record = c.evaluation(gaps=(SystemGap(system="endpoint:gpt", reason="connection refused"),))
    assert systems_view(record).silent == (("Endpoint gpt", "connection refused"),)
    assert len(systems_view(record).rows) == 3


def test_what_people_said_stands_beside_the_verdict(c: ModuleType) -> None:
    votes = RatingsRecord(
        run_id="x",
        candidate="fine_tuned",
        baseline="base_few_shot",
        num_pairs=20,
        num_identical=0,
        num_rated=12,
        num_votes=14,
        raters=("anna", "ben"),
        wins=9,
        losses=4,
        ties=1,
        preference=0.36,
        ci_low=-0.1,
        ci_high=0.8,
        p_value=0.1,
        verdict="inconclusive",
        votes_needed=30,
        agreement_said="alpha 0.81: reliable",
    )
    lines = systems_view(c.evaluation(), votes).beside
    assert any(line.startswith("People, blind: inconclusive; 14 votes of 2 raters on 12 of 20 pairs") for line in lines)
    assert any("alpha 0.81: reliable" in line for line in lines)
    changes = verdict_changes(c.evaluation(), [], votes)
    assert changes[-1] == "8 pairs wait for a person's rating." and "only scorers" not in "".join(changes)
