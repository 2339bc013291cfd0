"""Does the proposed fix help? The first cause's change applied as `foretune diagnose --apply 1` does, and run again."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from diagnose_suite.build import base_folder, damaged_base, general_file, resolved_job
from diagnose_suite.cases import ACCEPTED, Case, cases
from diagnose_suite.halves import HALVES
from diagnose_suite.kept import KEPT, job_of
from diagnose_suite.pack import Recorded, read_folder
from diagnose_suite.planting import planted
from diagnose_suite.runner import run_job
from diagnose_suite.scoring import rate, seen
from foretune import api
from foretune.config.read import resolve_job
from foretune.diagnose.diagnose import diagnose, judge
from foretune.diagnose.evidence import gather
from foretune.errors import ForetuneError
from foretune.records.diagnosis import DiagnosisRecord
from foretune.records.evaluation import EvaluationRecord
from foretune.steps import Run, collect_run, create_job_run

__all__ = ["run_fixes", "summary"]

WORSE = 0.05  # fall of the metric on the same 100 test rows that chance does not explain
FIX_FILE = "fix.json"


def run_fixes(out: Path, bases: Path, scratch: Path, *, each: int, only: Collection[str] = ()) -> dict[str, Any]:
    """Apply and rerun up to `each` harmful runs a fault whose first cause is right and can be applied.

    `only` names the faults; () = all.
    """
    by_name = {(half, case.name): case for half in HALVES for case in cases(half)}
    done: Counter[str] = Counter()
    untouched: Counter[str] = Counter()
    for run in read_folder(out):
        file = out / run.name / FIX_FILE
        if not run.counts or (only and run.label not in only):
            continue
        if _is_for_people(run):
            untouched[run.label] += 1
            continue
        if done[run.label] >= each:
            continue
        if not file.is_file():
            told = _fixed(run, by_name[run.half, run.name], out / run.name, bases, scratch / run.name)
            if told is None:
                continue
            file.write_text(json.dumps(told, indent=1), encoding="utf-8")
            print(f"{run.name}: {told}", flush=True)
        done[run.label] += 1
    return summary(out) | {"right_cause_but_nothing_to_apply": dict(untouched)}


def _is_for_people(run: Recorded) -> bool:
    """Whether the right cause is named and no setting or row of the job mends it: too little data, a wrong base."""
    causes = judge(run.evidence).causes
    return seen(run).is_right and bool(causes) and not causes[0].can_apply


def summary(out: Path) -> dict[str, Any]:
    """Rates over every fix that was tried in a folder."""
    told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob(f"*/{FIX_FILE}"))]
    classes = sorted({one["label"] for one in told})
    return {
        "helped": str(rate(one["clears"] and not one["is_worse"] for one in told)),
        "cleared": str(rate(one["clears"] for one in told)),
        "not_worse": str(rate(not one["is_worse"] for one in told)),
        "per_class": {
            label: str(rate(one["clears"] and not one["is_worse"] for one in told if one["label"] == label))
            for label in classes
        },
    }


def _fixed(run: Recorded, case: Case, folder: Path, bases: Path, scratch: Path) -> dict[str, Any] | None:
    """One fix; None where the first cause is not the planted one or changes nothing by itself."""
    causes = judge(run.evidence).causes
    if not seen(run).is_right or not causes or not causes[0].can_apply:
        return None
    shutil.rmtree(scratch, ignore_errors=True)
    plant = planted(case)
    base = base_folder(bases, case.base)
    if plant.base or plant.serve:
        base = damaged_base(base, scratch / "base", plant.base, case.seed)
    general = general_file(bases, plant.general)
    given = resolved_job(case, plant, folder=scratch / "job", base=base, general=general)
    first = create_job_run(given, runs_dir=scratch / "runs")
    collect_run(Run.open(first))
    for name in KEPT:
        if name not in ("dataset.json", "job.toml", "resolved.json") and (folder / name).is_file():
            shutil.copyfile(folder / name, first / name)
    diagnose(given.job, run_dir=first)
    try:
        target, patch = api.next_job(first, 1, scratch / "job" / "next.toml", runs_dir=scratch / "runs")
    except ForetuneError as error:  # the proposed change cannot be made: a fix that does not help
        metrics = {"clears": False, "is_worse": False, "error": str(error)}
        return {"name": run.name, "label": run.label, "patch": {}, **metrics}
    again = run_job(resolve_job(target), scratch / "again", plant, base)
    told = {"name": run.name, "label": run.label, "patch": patch, **_compared(run, again)}
    shutil.rmtree(scratch)
    return told


def _compared(run: Recorded, again: Path) -> dict[str, Any]:
    """Whether the planted fault's statistic is below 1 now, and whether the metric fell."""
    record: DiagnosisRecord = judge(gather(job_of(again), again))
    strength = max(record.statistics.get(mode, 0.0) for mode in ACCEPTED[run.label])
    before, after = run.evidence.evaluation, EvaluationRecord.read(again) if EvaluationRecord.exists(again) else None
    old, new = (
        0.0 if one is None else one.system(one.candidate).metrics[one.primary_metric].value for one in (before, after)
    )
    # What a leaking test split promised beyond validation was never true: without the copies only the rest can stay.
    inflated = run.effect if run.label == "leakage" and run.effect is not None else 0.0
    return {
        "statistic": strength,
        "clears": strength < 1,
        "metric_before": round(old, 4),
        "metric_after": round(new, 4),
        "is_worse": new < old - inflated - WORSE,
    }
