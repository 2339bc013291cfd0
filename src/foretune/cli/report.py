"""`foretune report`: the report of a run as one HTML file."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, Run, RunsDir

__all__ = ["command"]


def command(run: Run = LATEST, runs_dir: RunsDir = DEFAULT_RUNS, json: Json = False, debug: Debug = False) -> Answer:
    """Write the report of a run as one HTML file.

    \b
    Examples:
      foretune report
      foretune report json-extract-001 --json
    """
    from rich.markup import escape

    from foretune.records.run import find_run
    from foretune.ui.report import report_summary, write_report

    run_dir = find_run(runs_dir, run)
    path = write_report(run_dir)
    summary = report_summary(run_dir)
    document = {"command": "report", "run_id": run_dir.name, "path": str(path), "summary": summary}
    return Answer(document, [escape(summary["headline"]), f"Wrote {path}"], next=f"foretune chat {run_dir.name}")


command.__name__ = "report"
