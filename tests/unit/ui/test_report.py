"""The report says the verdict first, shows every section, escapes everything, and loads nothing."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from foretune.errors import NotFound
from foretune.records.diagnosis import Cause, DataStep, DiagnosisRecord
from foretune.records.evaluation import Delta, EvaluationRecord, SkillScore
from foretune.records.events import EventLog
from foretune.ui.answers import answer_board, differing
from foretune.ui.evaluated import confusion_view, systems_view
from foretune.ui.report import render_report, report_summary, write_report
from foretune.ui.run_folder import read_run_folder
from foretune.ui.summary import headline
from foretune.ui.trained import curves_view, model_facts

BLOCKS = {"td", "th", "p", "li", "div", "h1", "h2", "h3", "h4", "dt", "dd", "pre"}
VOID = {"meta", "br", "hr", "img", "link", "input"}
RECORDS = ("resolved", "plan", "dataset", "audit", "training", "evaluation", "diagnosis")


class Page(HTMLParser):
    """Checks that tags are balanced and keeps the text a reader sees."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.words.append(" " if tag in BLOCKS else "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Drawn shapes: nothing to read."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\u00a0", " "))


def page_of(run_dir: Path) -> Page:
    return Page(write_report(run_dir).read_text(encoding="utf-8"))


@pytest.mark.req("R290")
@pytest.mark.req("R119")
def test_the_verdict_is_the_first_thing_said(run_dir: Path) -> None:
    text = page_of(run_dir).text
    sentence = (
        "Fine-tuning helped: exact match rose from 31 % (best prompt) to 84 %, +53 points (95 % interval +42 to +63)."
    )
    assert sentence in text
    assert text.index(sentence) < text.index("Training time") < text.index("Three systems on the same samples")
    assert "Test split, 120 samples" in text and "p < 0.001, McNemar mid-p, Bonett-Price interval" in text


@pytest.mark.req("R310")
@pytest.mark.parametrize(
    ("verdict", "value", "change", "needed", "sentence"),
    [
        (
            "not_better",
            0.32,
            (0.01, -0.01, 0.018),
            None,
            "Fine-tuning did not help: exact match is 32.0 % against 31.0 % with the best prompt, +1.0 points "
            "(95 % interval −1.0 to +1.8).",
        ),
        (
            "worse",
            0.19,
            (-0.12, -0.2, -0.04),
            None,
            "Fine-tuning made it worse: exact match fell from 31 % (best prompt) to 19 %, −12 points "
            "(95 % interval −20 to −4).",
        ),
        (
            "inconclusive",
            0.37,
            (0.06, -0.04, 0.16),
            1412,
            "Not proven either way: exact match is 37 % against 31 % with the best prompt, +6 points, but the 95 % "
            "interval −4 to +16 leaves it open. About 1,412 test samples would settle it; this test had 120.",
        ),
        (
            "inconclusive",
            0.31,
            (0.0, -0.1, 0.1),
            None,
            "Not proven either way: exact match is 31 % against 31 % with the best prompt, +0 points, but the 95 % "
            "interval −10 to +10 leaves it open.",
        ),
    ],
)
def test_every_verdict_has_its_sentence(
    c: ModuleType,
    run_dir: Path,
    verdict: str,
    value: float,
    change: tuple[float, float, float],
    needed: int | None,
    sentence: str,
) -> None:
    delta = Delta(value=change[0], ci_low=change[1], ci_high=change[2], p_value=0.2, method="McNemar mid-p")
    systems = (c.system("base_few_shot", 0.31, 5), c.system("fine_tuned", value))
    c.evaluation(verdict=verdict, delta=delta, systems=systems, n_needed=needed).write(run_dir)
    assert headline(read_run_folder(run_dir)).sentence.strip() == sentence
    assert sentence in page_of(run_dir).text


def test_a_metric_that_is_no_fraction_is_written_as_it_is(c: ModuleType, run_dir: Path) -> None:
    systems = []
    for name, value in (("base_few_shot", 12.34), ("fine_tuned", 45.6)):
        metric = c.system(name, 0.5).metrics["exact_match"]
        metric = metric.model_copy(update={"value": value, "ci_low": value - 2, "ci_high": value + 2})
        systems.append(c.system(name, 0.5).model_copy(update={"metrics": {"bleu": metric}}))
    delta = Delta(value=33.26, ci_low=30.0, ci_high=36.0, p_value=0.0, method="bootstrap")
    record = c.evaluation(systems=tuple(systems), primary_metric="bleu", delta=delta)
    record.write(run_dir)
    expected = "Fine-tuning helped: BLEU rose from 12.3 (best prompt) to 45.6, +33.3 (95 % interval +30 to +36)."
    assert headline(read_run_folder(run_dir)).sentence == expected
    assert systems_view(record).rows[1].interval == "10.3 to 14.3"
    page_of(run_dir)


def test_raw_text_is_compared_with_the_base_model_by_bits_saved(c: ModuleType, run_dir: Path) -> None:
    systems = []
    for name, value in (("base_zero_shot", 2.31), ("fine_tuned", 1.92)):
        metric = c.system(name, 0.5).metrics["exact_match"]
        metric = metric.model_copy(update={"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1})
        systems.append(c.system(name, 0.5).model_copy(update={"metrics": {"bits_per_byte": metric}}))
    skill = SkillScore(
        skill="general_text", metric="bits_per_byte", before=2.0, after=2.6, n=60, ci_low=0.4, ci_high=0.8
    )
    c.evaluation(
        systems=tuple(systems),
        baseline="base_zero_shot",
        primary_metric="bits_per_byte",
        delta=Delta(value=0.39, ci_low=0.3, ci_high=0.48, p_value=0.0, method="paired t"),
        prompt_choices=(),
        general_skills=(skill,),
    ).write(run_dir)
    text = page_of(run_dir).text
    assert (
        "Fine-tuning helped: bits per byte fell from 2.31 (base model) to 1.92, gain +0.39 "
        "(95 % interval +0.3 to +0.48)." in text
    )
    assert "Two systems on the same samples" in text and "no answers to lay side by side" in text
    assert re.search(r"general text\s+bits per byte\s+2 → 2.6\s+\+0.6 \(\+0.4 to \+0.8\)\s+lost", text)


def test_no_test_samples_is_no_verdict(c: ModuleType, run_dir: Path) -> None:
    delta = Delta(value=0.0, ci_low=-1.0, ci_high=1.0, p_value=1.0, method="no samples")
    c.evaluation(n=0, delta=delta, verdict="inconclusive", n_needed=400).write(run_dir)
    assert headline(read_run_folder(run_dir)).sentence == "Not judged: there are no test samples."
    page_of(run_dir)


@pytest.mark.req("R284")
def test_every_section_is_there_in_order(run_dir: Path) -> None:
    source = write_report(run_dir).read_text(encoding="utf-8")
    titles = [
        "Three systems on the same samples",
        "What would change the verdict",
        "Where it helps and where it does not",
        "Answers side by side",
        "General skills before and after",
        "Data",
        "Plan",
        "Settings",
        "Learning curves",
        "Diagnosis",
        "Prompts tried on the base model",
        "How to reproduce",
        "Warnings",
    ]
    assert re.findall(r"<h2>(.*?)</h2>", source) == titles


def test_the_page_loads_nothing(run_dir: Path) -> None:
    source = write_report(run_dir).read_text(encoding="utf-8")
    for forbidden in (
        "http://",
        "https://",
        "src=",
        "url(",
        "@import",
        "<link",
        "<script",
        "<img",
        "<iframe",
        "onload",
    ):
        assert forbidden not in source, forbidden
    assert "default-src 'none'" in source
    assert "prefers-color-scheme: dark" in source and "@media print" in source and "max-width: 640px" in source
    assert len(source) < 120_000


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


def test_everything_from_records_is_escaped(c: ModuleType, run_dir: Path) -> None:
    rows = [
        row.model_copy(
            update={
                "prediction": EVIL + row.prediction,
                "expected": EVIL,
                "place": EVIL,
                "messages": ({"role": "user", "content": EVIL},),
            }
        )
        for row in c.answers({"base_few_shot": 30, "fine_tuned": 60})
    ]
    c.write_answers(run_dir, rows)
    skill = SkillScore(skill=EVIL, metric="exact_match", before=0.5, after=0.4, n=40, ci_low=-0.2, ci_high=0.1)
    c.evaluation(
        reason=EVIL,
        warnings=(EVIL,),
        prompt_choices=({"prompt": EVIL, "num_shots": 5, "score": 0.3, "chosen_as": EVIL},),
        general_skills=(skill,),
        confusion={"labels": [EVIL, "b"], "counts": [[3, 1], [0, 4]]},
    ).write(run_dir)
    c.audit().model_copy(update={"examples": (EVIL,)}).write(run_dir)
    (run_dir / "job.toml").write_text(f"# {EVIL}\n", encoding="utf-8")
    source = write_report(run_dir).read_text(encoding="utf-8")
    assert "<script" not in source and "<img" not in source
    assert "{{ 7*7 }}" in source
    assert source.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    Page(source)


@pytest.mark.parametrize("name", RECORDS)
def test_a_missing_record_is_named_with_what_to_run(run_dir: Path, name: str) -> None:
    (run_dir / f"{name}.json").unlink()
    text = page_of(run_dir).text
    expected = {
        "evaluation": "Run foretune evaluate tickets-007",
        "diagnosis": "Run foretune diagnose tickets-007",
        "audit": "Not audited. Run foretune audit job.toml",
        "dataset": "No data set record.",
        "plan": "Training time",
        "resolved": "tickets-007",
        "training": "Not trained yet. Run foretune train job.toml",
    }
    assert expected[name] in text


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_a_warning(run_dir: Path, name: str) -> None:
    (run_dir / f"{name}.json").write_text('{"schema_version": 1, "torn', encoding="utf-8")
    text = page_of(run_dir).text
    assert f"{name}.json" in text[text.rindex("Warnings") :]
    assert report_summary(run_dir)["warnings"] >= 1


def test_an_empty_folder_gives_a_report_and_no_folder_an_error(tmp_path: Path) -> None:
    text = page_of(tmp_path).text
    assert "Not trained yet." in text and "foretune plan job.toml" in text
    assert report_summary(tmp_path)["verdict"] is None
    with pytest.raises(NotFound):
        write_report(tmp_path / "nowhere")


def test_torn_answers_are_left_out_and_counted(run_dir: Path) -> None:
    with open(run_dir / "answers.jsonl", "a", encoding="utf-8") as file:
        file.write('{"sample_id": "t01')
    assert "answers.jsonl: 1 lines cannot be read" in page_of(run_dir).text


def test_predictions_are_shown_with_what_happened(run_dir: Path) -> None:
    text = page_of(run_dir).text
    assert re.search(r"Training time\s*held\s*66 s", text) and "predicted 58–71 s" in text
    assert re.search(r"Peak memory\s*missed\s*1\.26 GB", text) and "predicted 0.92–1.21 GB" in text
    summary = report_summary(run_dir)["predictions"]
    assert [item["held"] for item in summary] == [True, False, True]
    assert summary[0]["sentence"] == "Training time: predicted 58–71 s, was 66 s: held"


def test_before_training_the_plan_stands_alone(run_dir: Path) -> None:
    for name in ("training", "evaluation", "diagnosis"):
        (run_dir / f"{name}.json").unlink()
    text = page_of(run_dir).text
    assert "expected, interval 58–71 s" in text and "missed" not in text


@pytest.mark.req("R191")
@pytest.mark.req("R248")
@pytest.mark.req("R256")
def test_trained_share_and_what_early_stopping_saved(run_dir: Path) -> None:
    run = read_run_folder(run_dir)
    assert model_facts(run) == ("2.79 %", "147.5 k of 5.3 M parameters, LoRA, saved in 590.0 kB (predicted 589.8 kB)")
    view = curves_view(run)
    assert view is not None
    assert view.saved == "Early stopping saved 15 steps of 120, about 9.5 s and $0.0005."
    assert "Early stopping saved 15 steps" in page_of(run_dir).text


@pytest.mark.req("R254")
def test_the_loss_chart_has_both_series_and_marks_the_best_step(run_dir: Path) -> None:
    view = curves_view(read_run_folder(run_dir))
    assert view is not None
    assert view.chart.count("<polyline") == 3  # training twice: each step faint, the mean bold
    assert 'class="curve validation"' in view.chart and 'class="curve train"' in view.chart
    assert "best: step 75" in view.chart and view.chart.count("best-dot") == 1


@pytest.mark.req("R286")
def test_the_systems_stand_side_by_side_with_intervals(run_dir: Path) -> None:
    view = systems_view(EvaluationRecord.read(run_dir))
    assert [(row.title, row.value, row.interval) for row in view.rows] == [
        ("Fine-tuned", "84 %", "77 to 90 %"),
        ("Base model, best prompt", "31 %", "24 to 38 %"),
        ("Base model, no examples", "4 %", "1 to 7 %"),
    ]
    assert [metric for metric, _ in view.table] == ["exact match", "valid JSON", "valid by the schema", "token F1"]


@pytest.mark.req("R306")
def test_worst_answers_come_first_and_the_counts_add_up(c: ModuleType, run_dir: Path) -> None:
    run = read_run_folder(run_dir)
    assert run.evaluation is not None
    board = answer_board(run.evaluation, run.answers)
    assert board is not None
    counts = {name: count for count, name, _ in board.outcomes}
    right = {
        system: {a.sample_id for a in run.answers if a.system == system and a.scores["exact_match"]}
        for system in ("base_few_shot", "fine_tuned")
    }
    assert counts["mended"] == len(right["fine_tuned"] - right["base_few_shot"])
    assert counts["broken"] == len(right["base_few_shot"] - right["fine_tuned"]) > 0
    assert sum(counts.values()) == 120
    assert board.worst[0].baseline.is_right and not board.worst[0].tuned.is_right
    assert all(not case.tuned.is_right for case in board.worst)
    assert all(case.tuned.is_right and not case.baseline.is_right for case in board.best)
    assert board.worst[0].question.startswith(("Hi", "hello", "Good", "hey"))


def test_graded_scores_are_better_equal_or_worse(c: ModuleType) -> None:
    rows = [
        row.model_copy(update={"scores": {"token_f1": row.scores["token_f1"]}})
        for row in c.answers({"base_few_shot": 30, "fine_tuned": 60})
    ]
    board = answer_board(c.evaluation(primary_metric="token_f1"), rows)
    assert board is not None and [words for _, _, words in board.outcomes] == ["better", "equal", "worse"]
    assert board.worst[0].tuned.score not in ("right", "wrong")


def test_differences_are_marked_word_by_word() -> None:
    assert list(differing('{"order": 8561}', '{"order": 85616}')) == [
        ('{"order": ', False),
        ("8561", True),
        ("}", False),
    ]
    assert list(differing("red green", "red blue green")) == [("red ", False), ("", True), ("green", False)]
    assert list(differing("same", "same")) == [("same", False)]
    assert "".join(text for text, _ in differing("a b  c, d.", "b c d")) == "a b  c, d."
    assert list(differing("", "expected")) == [("", True)]


def test_skills_not_measured_say_why(c: ModuleType, run_dir: Path) -> None:
    warning = "general skills were not measured: evaluate.advanced.probe_samples is 0"
    c.evaluation(general_skills=(), warnings=(warning,)).write(run_dir)
    assert f"General{warning[7:]}." in page_of(run_dir).text
    c.evaluation(general_skills=(), warnings=()).write(run_dir)
    assert "General skills were not measured in this evaluation." in page_of(run_dir).text


def test_skills_lost_come_first(run_dir: Path) -> None:
    text = page_of(run_dir).text
    section = text[text.rindex("General skills before and after") :]
    assert section.index("Spanish") < section.index("arithmetic")
    assert "55 % → 20 %" in section and "−35 (−49 to −21)" in section


@pytest.mark.req("R305")
def test_the_diagnosis_comes_with_its_patch_and_the_table_of_symptoms(run_dir: Path) -> None:
    page = page_of(run_dir)
    section = page.text[page.text.rindex(" Diagnosis ") : page.text.rindex(" Data ")]
    assert "Overfitting" in section and "weight_decay = 0.1" in section and "times the threshold" in section
    for name in ("Catastrophic forgetting", "Style without substance", "Distribution shift"):
        assert name in section
    assert "not checked" in section


def test_what_follows_from_a_root_cause_is_marked_and_rows_that_change_are_told(run_dir: Path) -> None:
    causes = (
        Cause(mode="label_noise", statistic=2.0, evidence=("3 of 9",), explanation="Noise.", fixes=("Read them.",),
              patch={}, data_steps=(DataStep(do="drop_odd", ids=("a", "b")),)),
        Cause(mode="wrong_base", statistic=1.5, evidence=("1 of 9",), explanation="Base.", fixes=("B.",), patch={}),
        Cause(mode="overfitting", statistic=3.0, evidence=("2 of 9",), explanation="By heart.", fixes=("Less.",),
              patch={"train.epochs": 1.5}, explained_by=("label_noise",)),
    )  # fmt: skip
    missing = {"leakage": "no answers", "distribution_shift": "no answers"}
    DiagnosisRecord(run_id="r", causes=causes, checked=("label_noise",), not_checked=missing).write(run_dir)
    page = page_of(run_dir)
    section = page.text[page.text.rindex(" Diagnosis ") : page.text.rindex(" Data ")]
    assert "follows from label noise" in section and "2 listed training rows are dropped" in section
    assert "--apply 1 " in section and "--apply 2 " not in section and "--apply 3 " in section
    assert "leakage, distribution shift" in section
    badge = page.text[page.text.index("Diagnosis: ") :][:80]
    assert "label noise" in badge and "overfitting" not in badge


def test_a_healthy_run_says_that_nothing_was_found(c: ModuleType, run_dir: Path) -> None:
    record = DiagnosisRecord(run_id="r", causes=(), checked=("overfitting",), not_checked={"forgetting": "no skills"})
    record.write(run_dir)
    text = page_of(run_dir).text
    assert "Nothing found. Checked: overfitting." in text and "no skills" in text


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.add("train_start", step=0, planned_steps=50)
        for step in range(1, 30):
            log.add("step", step=step, loss=2.0 - step * 0.01 if step < 29 else float("nan"))
        log.add("failed", error="TrainingDiverged", message="the loss is NaN at step 29", fix="lower the rate")
    text = page_of(tmp_path).text
    assert "Training failed after 29 steps: the loss is NaN at step 29." in text and "lower the rate" in text
    assert "29 of 50" in text


def test_confusion_matrix_and_many_classes(c: ModuleType, run_dir: Path) -> None:
    assert confusion_view(c.evaluation()) is None
    small = confusion_view(c.evaluation(confusion={"labels": ["a", "b"], "counts": [[3, 1, 0], [0, 4, 2]]}))
    assert small is not None and small.columns == ("a", "b", "no class")
    assert small.rows[0] == ("a", ((3, 0.75, True), (1, 0.25, False), (0, 0.0, False)))
    valid = confusion_view(c.evaluation(confusion={"labels": ["a", "b"], "counts": [[3, 1, 0], [0, 4, 0]]}))
    assert valid is not None and valid.columns == ("a", "b")
    long = confusion_view(c.evaluation(confusion={"labels": ["a" * 40, "b"], "counts": [[3, 1], [0, 4]]}))
    assert long is not None and long.columns == ("a" * 23 + "…", "b") and long.rows[0][0] == "a" * 40
    labels = [f"intent {n}" for n in range(20)]
    counts = [[7 if i == j else int(i == 3 and j == 5) * 4 for j in range(20)] for i in range(20)]
    record = c.evaluation(confusion={"labels": labels, "counts": counts})
    large = confusion_view(record)
    assert large is not None and large.rows == () and large.confusions == (("intent 3", "intent 5", 4),)
    record.write(run_dir)
    assert "the most frequent confusions" in page_of(run_dir).text


def test_reproduction_has_versions_hashes_and_seed(c: ModuleType, run_dir: Path) -> None:
    text = page_of(run_dir).text
    section = text[text.rindex("How to reproduce") :]
    for part in ("foretune run job.toml", "learning_rate = 1e-3", c.VERSION, c.digest("base"), c.digest("adapter")):
        assert part in section
    assert "torch 2.13.0" in section and "Seed 0" in section


def test_the_summary_is_plain_json(run_dir: Path) -> None:
    summary = json.loads(json.dumps(report_summary(run_dir)))
    assert summary["verdict"] == "better" and summary["metric"] == "exact_match" and summary["n"] == 120
    assert summary["delta"]["ci_low"] == 0.42
    assert [system["name"] for system in summary["systems"]] == ["base_zero_shot", "base_few_shot", "fine_tuned"]
    assert summary["diagnosis"] == ["overfitting", "forgetting"]
    assert summary["headline"].startswith("Fine-tuning helped")


def test_a_long_run_stays_small(c: ModuleType, run_dir: Path) -> None:
    record = c.training()
    point = record.train_curve[0]
    curve = tuple(point.model_copy(update={"step": n, "loss": 2.0 + (n % 7) / 10}) for n in range(1, 8001))
    record.model_copy(update={"train_curve": curve, "num_steps": 8000, "planned_steps": 8000}).write(run_dir)
    assert len(render_report(read_run_folder(run_dir))) < 120_000
