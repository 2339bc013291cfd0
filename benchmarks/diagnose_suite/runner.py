"""One run of the suite from its files to its records: collect, train, evaluate, observe; weights are dropped."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import foretune.engine.engine as engine_module
import foretune.train.setup as setup_module
import foretune.train.train as train_module
from diagnose_suite.build import base_folder, damaged_base, general_file, resolved_job
from diagnose_suite.cases import Case
from diagnose_suite.kept import CASE_FILE, FAILED_FILE, KEPT
from diagnose_suite.kinds import Planted, TokenFault
from diagnose_suite.planting import planted
from foretune.config.read import ResolvedJob
from foretune.data.samples import Sample
from foretune.engine.engine import Engine, load_engine
from foretune.errors import TrainingDiverged
from foretune.evaluate.observe import observe
from foretune.steps import Run, collect_run, create_job_run, evaluate_run
from foretune.train.here import train_run
from foretune.train.objective import Row
from foretune.train.rows import Rows, build_rows

__all__ = ["Workplace", "observe_again", "run_case", "run_job"]


@dataclass(frozen=True)
class Workplace:
    """Where the suite keeps its records (`out`), its bases, and what it throws away again (`scratch`)."""

    out: Path
    bases: Path
    scratch: Path
    keep_weights: bool = False

    def is_done(self, case: Case) -> bool:
        """Whether the run has left its records."""
        return (self.out / case.name / CASE_FILE).is_file()


def run_case(case: Case, place: Workplace) -> dict[str, Any]:
    """Run one case and leave its records in `out`; what is told of it is returned and in `case.json`."""
    run = planted(case)
    folder = place.scratch / case.name
    shutil.rmtree(folder, ignore_errors=True)
    base = base_folder(place.bases, case.base)
    if run.base or run.serve:
        base = damaged_base(base, folder / "base", run.base, case.seed)
    general = general_file(place.bases, run.general)
    job = resolved_job(case, run, folder=folder / "job", base=base, general=general)
    began, cpu = time.monotonic(), time.process_time()
    run_dir = run_job(job, folder / "runs", run, base)
    told = {
        **asdict(case),
        "notes": run.notes,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }
    _keep(run_dir, place.out / case.name, told)
    for checkpoints in run_dir.glob("checkpoints"):
        shutil.rmtree(checkpoints)
    if not place.keep_weights:
        shutil.rmtree(folder)
    return told


def run_job(job: ResolvedJob, runs_dir: Path, run: Planted | None, base: Path) -> Path:
    """Collect, train, evaluate and observe in this process, faults in tokens and serving included; the run folder."""
    run_dir = create_job_run(job, runs_dir=runs_dir)
    step = Run.open(run_dir)
    with ExitStack() as stack:
        stack.enter_context(_bases_kept(base, is_stable=run is None or not run.serve))
        if run is not None and run.tokens:
            stack.enter_context(_tokens_damaged(run.tokens))
        collect_run(step)
        try:
            train_run(run_dir)
        except TrainingDiverged as error:
            (run_dir / FAILED_FILE).write_text(json.dumps({"error": str(error)}), encoding="utf-8")
            return run_dir
        if run is not None and run.serve:
            _serve_otherwise(run_dir, base, run.serve)
        evaluate_run(step, reuse_test=True)
        observe(step.job, run_dir=run_dir, runs_dir=runs_dir, quick=True)
    return run_dir


def observe_again(case: Case, place: Workplace) -> float:
    """Probe the kept weights of a run anew and keep the new evidence; the seconds it took."""
    began = time.monotonic()
    runs_dir = place.scratch / case.name / "runs"
    run_dir = next(path.parent for path in runs_dir.glob("*/resolved.json"))
    base = base_folder(place.bases, case.base)
    with _bases_kept(base, is_stable=not (place.scratch / case.name / "base").is_dir()):
        observe(Run.open(run_dir).job, run_dir=run_dir, runs_dir=runs_dir, quick=True)
    shutil.copyfile(run_dir / "evidence.json", place.out / case.name / "evidence.json")
    return time.monotonic() - began


def _keep(run_dir: Path, target: Path, told: dict[str, Any]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in (*KEPT, FAILED_FILE):
        if (run_dir / name).is_file():
            shutil.copyfile(run_dir / name, target / name)
    if not (run_dir / "training.json").is_file():  # broke off: its curve is in the events alone
        shutil.copyfile(run_dir / "events.jsonl", target / "events.jsonl")
    (target / CASE_FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")


# --- bases: loaded and asked once -----------------------------------------------------------------------------------

Key = tuple[str, tuple[int, ...], int]
_ANSWERS: dict[Key, list[int]] = {}


@lru_cache(maxsize=4)
def _loaded(base: Path) -> Engine:
    return load_engine(base)


@contextmanager
def _bases_kept(base: Path, *, is_stable: bool) -> Iterator[None]:
    """Within, the base is loaded once a process, and asked no question twice: it is the same in every run."""
    if not is_stable or "scratch" in base.parts or base.name == "base":
        yield
        return

    def opened(folder: Path, artefact: Path | None = None) -> Engine:
        return _loaded(folder) if artefact is None and folder == base else load_engine(folder, artefact)

    plain = Engine.generate

    def generate(
        self: Engine, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, **more: Any
    ) -> list[list[int]]:
        if self is not _loaded(base):
            return plain(self, prompts, max_new_tokens=max_new_tokens, **more)
        keys = [(str(base), tuple(prompt), max_new_tokens) for prompt in prompts]
        new = [at for at, key in enumerate(keys) if key not in _ANSWERS]
        answers = plain(self, [prompts[at] for at in new], max_new_tokens=max_new_tokens, **more) if new else []
        _ANSWERS.update({keys[at]: answer for at, answer in zip(new, answers, strict=True)})
        return [_ANSWERS[key] for key in keys]

    with patch.object(engine_module, "load_engine", opened), patch.object(Engine, "generate", generate):
        yield


# --- faults that no setting of foretune can cause -------------------------------------------------------------------


@contextmanager
def _tokens_damaged(fault: TokenFault) -> Iterator[None]:
    """Rows as a faulty tokenising step would hand them on; the audit that would refuse them only writes its record."""

    def damaged(samples: Sequence[Sample], *args: Any, **kwargs: Any) -> Rows:
        built = build_rows(samples, *args, **kwargs)
        return built._replace(rows=[_damaged(row, fault) for row in built.rows])

    with (
        patch.object(setup_module, "build_rows", damaged),
        patch.object(train_module, "check_tokens", lambda record: None),
    ):
        yield


def _damaged(row: Row, fault: TokenFault) -> Row:
    weights = row.weights.copy()
    trained = np.flatnonzero(weights)
    if fault == "no_end":
        weights[trained[-1]] = 0.0
        return Row(row.ids, weights)
    kept = trained[: max(1, (len(trained) - 1) // 2)]
    return Row(row.ids[: kept[-1] + 1], weights[: kept[-1] + 1])


def _serve_otherwise(run_dir: Path, base: Path, template: str) -> None:
    """Put another chat template where the model is asked: beside the base, and beside a whole model."""
    artefacts = [path.parent for path in run_dir.glob("*/model.safetensors")]
    for folder in (base, *artefacts):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
