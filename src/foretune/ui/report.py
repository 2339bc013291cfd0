"""`report.html`: one self-contained page a manager can read, drawn from whatever records a run folder holds."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import foretune
from foretune.errors import NotFound
from foretune.records.base import write_atomically
from foretune.ui import evaluated, planned, sections, settings, tokens, trained, verdicts
from foretune.ui.answers import answer_board
from foretune.ui.run_folder import RunFolder, read_run_folder
from foretune.ui.summary import headline, predictions, report_summary

__all__ = ["REPORT_FILE", "render_report", "report_summary", "write_report"]

REPORT_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path; sections without a record say what to run.

    Raises NotFound where there is no such folder, and the errors of a folder that cannot be written.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise NotFound(f"no run folder {folder}", fix="foretune runs list")
    path = folder / REPORT_FILE
    write_atomically(path, render_report(read_run_folder(folder)))
    return path


def render_report(run: RunFolder) -> str:
    """The page as text. Everything from records is escaped; nothing is loaded from anywhere."""
    return environment().get_template("report.html.j2").render(**page(run))


def environment() -> Environment:
    """Templates with escaping always on and unknown names as errors."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["nobreak"] = nobreak
    return templates


def nobreak(text: str) -> str:
    """Text whose numbers stay on one line with their units, and ranges of signed numbers in one piece."""
    text = re.sub(r"(?<=\d) (?=%|(?:s|h|d|min|[kMGT]?B|[kMBT])\b)", "\u00a0", text)
    return re.sub(r"([+−][\d.]+) to (?=[+−])", "\\1\u00a0to\u00a0", text)


def page(run: RunFolder) -> dict[str, Any]:
    """The values of the templates, one a section; None where a record is missing."""
    evaluation = run.evaluation
    return {
        "foretune_version": foretune.__version__,
        "run": run,
        "headline": headline(run),
        "cards": trained.card_charts(predictions(run)),
        "model": trained.model_facts(run),
        "badges": sections.badges(run),
        "settings": settings.settings_view(run.resolved) if run.resolved else None,
        "slices": verdicts.slices_view(evaluation, run.answers) if evaluation else None,
        "changes": verdicts.verdict_changes(evaluation, run.answers, run.ratings) if evaluation else (),
        "systems": evaluated.systems_view(evaluation, run.ratings) if evaluation else None,
        "plan": planned.plan_view(run),
        "curves": trained.curves_view(run),
        "board": answer_board(evaluation, run.answers) if evaluation else None,
        "skills": evaluated.skills_view(evaluation) if evaluation else None,
        "why_no_skills": evaluated.why_no_skills(evaluation) if evaluation else "",
        "confusion": evaluated.confusion_view(evaluation) if evaluation else None,
        "causes": sections.diagnosis_view(run.diagnosis) if run.diagnosis else None,
        "unchecked": sections.unchecked(run.diagnosis) if run.diagnosis else (),
        "symptoms": sections.symptom_rows(run.diagnosis),
        "data": sections.data_view(run),
        "prompts": evaluated.prompt_rows(evaluation) if evaluation else None,
        "tokens": tokens.tokens_view(run.path),
        "parity": tokens.parity_view(run.path),
        "post_mortem": tokens.post_mortem_view(run.path),
        "reproduction": sections.reproduction(run),
        "warnings": sections.warning_list(run),
    }
