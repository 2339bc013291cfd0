"""The plan on the page: memory, predicted and actual, advice, timeline, costs and payback, of a run and alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from foretune.plan.answer import requested_setup
from foretune.plan.choice import offers
from foretune.plan.decision import decide
from foretune.plan.project import Outlook, outlook, read_project
from foretune.plan.request import plan_request
from foretune.plan.whole import WholePlan, whole_plan
from foretune.records.training import TrainingRecord
from foretune.ui.plan_page import write_outlook_page, write_plan_page
from foretune.ui.planned import offer_rows, outlook_view, plan_view
from foretune.ui.report import render_report
from foretune.ui.run_folder import read_run_folder

PROJECT = """
[situation]
goal = "classification"
num_examples = 3000
data_quality = "good"
prompt_tried = true

[timeline]
start = 2026-12-01

[money]
queries_per_month = 100000
usd_per_query = 0.012
tuned_usd_per_query = 0.002
labour_usd_per_hour = 100
annotation_items = 3000
annotation_kind = "classification"
hosting_usd_per_hour = 0.5
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "project.toml"
    file.write_text(PROJECT)
    assert tomllib.loads(PROJECT)
    return file


@pytest.fixture
def whole(project: Path) -> WholePlan:
    request = plan_request(base="llama-3.1-8b", gpu="H100", num_examples=3000, tokens_per_example=400.0)
    return whole_plan(request, project=project)


def around(project: Path) -> Outlook:
    return outlook(read_project(project), num_examples=3000)


def drawings(page: str) -> list[ElementTree.Element]:
    """Every chart of a page, parsed."""
    return [
        ElementTree.fromstring(text) for text in re.findall(r'<svg class="chart.*?</svg>(?!</svg>)', page, re.DOTALL)
    ]


def test_a_plan_alone_shows_everything(whole: WholePlan, tmp_path: Path) -> None:
    page = write_plan_page(tmp_path / "plan.html", whole).read_text()
    for title in ("What the memory goes to", "Should it be trained at all?", "What would change the answer", "Where"):
        assert f">{title}<" in page
    for title in ("Start small", "What the project costs", "Does it pay?", "When"):
        assert f">{title}<" in page
    assert "Fits" in page and "flips" in page and "01 Dec" in page and "labels" in page
    assert "http://" not in page and "<script" not in page
    assert len(drawings(page)) > 20


def test_a_plan_that_does_not_fit_says_so_first(tmp_path: Path) -> None:
    refused = whole_plan(
        plan_request(base="llama-2-70b", method="full", gpu="T4", num_examples=100, tokens_per_example=99.0)
    )
    page = write_plan_page(tmp_path / "plan.html", refused).read_text()
    assert "Does not fit" in page and page.index("would fit:") < page.index('id="plan"') and "Start small" not in page


def test_ranked_offers_stand_on_the_page(whole: WholePlan, tmp_path: Path) -> None:
    request = plan_request(base="llama-3.1-8b", num_examples=3000, tokens_per_example=400.0)
    found = offers(requested_setup(request)[0], methods=("lora",))
    rows = offer_rows(found)
    assert rows[0].is_chosen and rows[0].number == 1 and "cheapest" in rows[0].note
    assert {row.provider for row in rows} >= {"Together", "Fireworks"} and len(rows) < len(found)
    page = write_plan_page(tmp_path / "plan.html", whole, found).read_text()
    assert ">Where to run it<" in page and f"{len(found):,} offers fit" in page and "open (seen" in page


def test_a_project_alone_has_a_page(project: Path, tmp_path: Path) -> None:
    page = write_outlook_page(tmp_path / "p.html", around(project)).read_text()
    assert 'id="timeline"' in page and 'id="advice"' in page and "What the memory goes to" not in page


@pytest.mark.req("R047")
def test_the_timeline_has_a_bar_for_every_task(project: Path) -> None:
    found = around(project)
    view = outlook_view(found.as_dict()).gantt
    assert view is not None and [row.name for row in view.rows] == [task.name for task in found.timeline.tasks]
    assert [row.phase for row in view.rows if row.phase] == [phase.name for phase in found.timeline.phases]
    assert {row.name for row in view.rows if row.critical} == {t.name for t in found.timeline.tasks if t.critical}
    bars = [ElementTree.fromstring(str(row.bar)).findall("rect") for row in view.rows]
    starts = [float(str(rects[-1].get("x")).rstrip("%")) for rects in bars]
    assert starts[0] == 0 and max(starts) < 100
    ends = [float(str(r[0].get("x")).rstrip("%")) + float(str(r[0].get("width")).rstrip("%")) for r in bars]
    assert max(ends) <= 100.001 and view.rows[0].dates.startswith("01 Dec")


def test_payback_shows_what_flips_the_verdict(project: Path) -> None:
    found = around(project)
    view = outlook_view(found.as_dict()).payback
    assert view is not None and found.payback is not None and view.is_worth_it == found.payback.is_worth_it
    names = [name for name, _, _, _ in view.swings]
    assert names == [swing.name.replace("_", " ") for swing in found.payback.sensitivity[: len(names)]]
    assert {name for name, _, _, flips in view.swings if flips} == {
        swing.name.replace("_", " ") for swing in found.payback.sensitivity[: len(names)] if swing.flips
    }
    assert not view.verdict.startswith("worth it")


def test_a_payback_that_never_comes() -> None:
    case = "[money]\nusd_per_query = 0.001\ntuned_usd_per_query = 0.01\nqueries_per_month = 1000\ntraining_usd = 50\n"
    view = _read(case).payback
    assert view is not None and not view.is_worth_it and ("Break-even", "never") in view.facts


def _read(text: str) -> ModuleType:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "project.toml"
        file.write_text(text)
        return outlook_view(outlook(read_project(file)).as_dict())  # type: ignore[return-value]


def test_a_run_without_a_decision_says_what_to_ask(run_dir: Path) -> None:
    view = plan_view(read_run_folder(run_dir))
    assert view is not None and view.advice is None and view.memory is not None
    assert "foretune plan --questions" in render_report(read_run_folder(run_dir))


@pytest.mark.req("R191", "R248")
def test_a_run_shows_predicted_and_actual_and_what_was_advised(run_dir: Path, c: ModuleType) -> None:
    decide(c.plan(), run_dir=run_dir, folder=run_dir)
    artefact = run_dir / TrainingRecord.read(run_dir).artefact
    artefact.mkdir(parents=True, exist_ok=True)
    (artefact / "adapter_model.safetensors").write_bytes(b"0" * 600_000)
    run = read_run_folder(run_dir)
    view = plan_view(run)
    assert view is not None and view.advice is not None and view.decision.startswith("Nobody was asked")
    names = [name for name, *_ in view.predictions]
    assert "Training time" in names and "Peak memory" in names
    assert all(held is not None and actual != "–" for _, _, _, actual, held in view.predictions)
    facts = dict(view.facts)
    assert facts["Result on disk"] == "589.8 kB predicted, 600.0 kB written" and "%" in facts["Trained"]
    page = render_report(run)
    assert 'href="#plan"' in page and 'id="plan"' in page and "Predicted and actual" in page
    assert ">What would change the answer<" in page and 'id="timeline"' in page


def test_nothing_from_records_is_markup(run_dir: Path, c: ModuleType) -> None:
    record = decide(c.plan(), run_dir=run_dir, folder=run_dir, skipped_because="<script>alert(1)</script>")
    assert record.reason in DECODED
    page = render_report(read_run_folder(run_dir))
    assert "<script>" not in page and "&lt;script&gt;" in page


DECODED = "<script>alert(1)</script>"
