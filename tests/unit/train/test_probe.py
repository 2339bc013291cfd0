"""What a probe measures of a run, what it leaves behind, and what it says where memory runs out."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foretune.backends.probing import PROBE_FOLDER
from foretune.config.read import resolve_job
from foretune.errors import DoesNotFit
from foretune.records.probe import ProbeRecord
from foretune.steps import Run, collect_run, create_job_run
from foretune.train import probe as module
from foretune.train.here import probe_run

NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


@pytest.fixture
def collected(tiny_job: Path) -> Path:
    """A run folder whose data is collected."""
    run_dir = create_job_run(resolve_job(tiny_job), runs_dir=tiny_job.parent / "runs")
    collect_run(Run.open(run_dir))
    return run_dir


def test_a_probe_measures_passes_updates_saving_and_memory(collected: Path) -> None:
    before = {path.name for path in collected.iterdir()}
    record = probe_run(collected)
    assert record == ProbeRecord.read(collected)
    assert len(record.points) == module.NUM_STEPS + 1 and len(record.eval_points) == 3
    assert min(point.seconds for point in (*record.points, *record.eval_points)) > 0
    assert record.update_seconds > 0 < record.save_seconds and record.decode_seconds_per_token > 0
    assert 0 < record.base_memory_bytes <= record.peak_memory_bytes <= record.saving_memory_bytes
    assert not record.recomputes_activations
    assert {path.name for path in collected.iterdir()} - before == {"probe.json"}


def test_a_probe_recomputes_where_the_plan_means_to(collected: Path) -> None:
    assert probe_run(collected, recompute=True).recomputes_activations


def test_memory_that_runs_out_is_told_with_what_to_change(collected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NO_MEMORY

    monkeypatch.setattr(module, "_timed_pass", fail)
    with pytest.raises(DoesNotFit, match=r"largest batch, \d+ samples of up to \d+ tokens") as caught:
        probe_run(collected)
    assert "micro_batch_size" in caught.value.fix and not ProbeRecord.exists(collected)


def test_a_disk_that_is_full_is_not_out_of_memory(collected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DoesNotFit("no space left")

    monkeypatch.setattr(module, "save_checkpoint", fail)
    with pytest.raises(DoesNotFit, match="no space left"):
        probe_run(collected)
    assert not (collected / PROBE_FOLDER).exists()
