"""Is the demo's training time inside its own stated interval? Ten fresh runs, each predicted before it starts."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from foretune import api, journey
from foretune.config.read import resolve_job
from foretune.records.plan import PlanRecord
from foretune.records.training import TrainingRecord

REPEATS = 10


def measure() -> dict[str, Any]:
    """Each repeat's interval and what it took; every repeat has runs folder and ledger of its own, so none learns."""
    repeats: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        job_file = api.init("json-extract", Path(name) / "job")
        for number in range(REPEATS):
            given = resolve_job(job_file, {"seed": number})
            run_dir = api.run(given, runs_dir=Path(name) / f"runs{number}", dry_run=True).run_dir
            journey.run_stages(run_dir, stages=("train",))
            plan, training = PlanRecord.read(run_dir), TrainingRecord.read(run_dir)
            item = next(i for i in training.reconciliation if i.quantity == "train_seconds")
            memory = next((i for i in training.reconciliation if i.quantity == "peak_memory_gb"), None)
            repeats.append(
                {
                    "low": round(item.predicted.low, 1),
                    "expected": round(item.predicted.expected, 1),
                    "high": round(item.predicted.high, 1),
                    "actual": round(item.actual, 1),
                    "held": item.held,
                    "steps": training.num_steps,
                    "planned_steps": plan.num_steps,
                    "memory_held": memory.held if memory else None,
                }
            )
            print(json.dumps(repeats[-1]), file=sys.stderr, flush=True)
    held = sum(item["held"] for item in repeats)
    return {"metrics": {"held": held, "repeats": REPEATS}, "repeats": repeats}
