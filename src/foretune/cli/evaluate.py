"""`foretune evaluate`: the verdict on a trained run."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.cli.face import DEFAULT_RUNS, LATEST, Answer, Debug, Json, ReuseTest, Run, RunsDir

__all__ = ["command"]


def command(
    run: Run = LATEST,
    reuse_test: ReuseTest = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
    json: Json = False,
    debug: Debug = False,
) -> Answer:
    """Compare a run with its prompted base.

    On the sealed test split, with intervals; a second look at the same split needs --reuse-test.

    \b
    Examples:
      foretune evaluate
      foretune evaluate json-extract-001 --reuse-test
    """
    from foretune import api
    from foretune.cli.show import evaluation_shown
    from foretune.cli.under_way import watching
    from foretune.records.run import find_run

    run_dir = find_run(runs_dir, run)
    with watching() as watcher:
        record = api.evaluate(run_dir, runs_dir=runs_dir, reuse_test=reuse_test, on_progress=watcher.progress)
    document = {"command": "evaluate", "run_id": run_dir.name, "evaluation": record.as_dict()}
    return Answer(document, evaluation_shown(record), next=f"foretune diagnose {run_dir.name}")


command.__name__ = "evaluate"
