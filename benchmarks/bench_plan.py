"""The planner against other estimators on reported runs: memory and time of rows whose source the fit never saw.

Reads `../shared/observations.csv` beside the repository, prints a table, draws docs/images/plan.svg. llm-analysis and
ftune are scored where they are installed: `pip install --no-deps llm-analysis==0.2.2 fire termcolor ftuneai pyyaml`.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Every peer is scored on the rows that it has a case for, beside the planner on the same rows; rows that say themselves
# that nobody measured them are left out. Each error is |predicted - reported| / reported; macro is the mean over
# sources of the figure of each. The intervals that rows are held against are made without their source, too.
from __future__ import annotations

import csv
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import plan_fit_memory as memory_fit
import plan_fit_time as time_fit
import plan_peers
from plan_plot import Panel, draw

from foretune.plan import gpu_memory
from foretune.plan.forecast import usable_gb
from foretune.plan.gpu_time import predicted
from foretune.plan.gpu_work import num_devices
from foretune.plan.rows import setup_of
from foretune.plan.setup import Setup

OBSERVATIONS = Path(__file__).resolve().parents[2] / "shared" / "observations.csv"
IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "plan.svg"
NEAR = 0.2
FEWEST = 5  # rows of a regime that get a line of their own
OWN_LINES = (
    "all",
    "batch_and_checkpointing_stated",
    "one_device_fine_tuning",
    "framework_withheld",
    "whole_framework_left_out",
    "one_device_fine_tuning_framework_left_out",
    "rows_left_out_at_random",
    "one_device_fine_tuning_rows_left_out",
    "whole_repository_left_out",
)
METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full", "weights": "weights only"}


@dataclass(frozen=True)
class Scored:
    """Logarithms of predicted over reported of some rows, with what the rows are; `held` is about the interval."""

    errors: np.ndarray
    sources: np.ndarray
    regimes: np.ndarray
    held: np.ndarray | None = None

    def part(self, chosen: np.ndarray) -> Scored:
        """Only some of the rows."""
        held = None if self.held is None else self.held[chosen]
        return Scored(self.errors[chosen], self.sources[chosen], self.regimes[chosen], held)


def score(rows: Scored) -> dict[str, float]:
    """Every figure of a set of rows, as shares."""
    off = np.abs(np.expm1(rows.errors))
    groups = [off[rows.sources == source] for source in sorted(set(rows.sources))]
    found = {
        "rows": len(off),
        "sources": len(groups),
        "median_error": float(np.median(off)),
        "within_20_percent": float(np.mean(off <= NEAR)),
        "macro_median_error": float(np.mean([np.median(group) for group in groups])),
        "macro_within_20_percent": float(np.mean([np.mean(group <= NEAR) for group in groups])),
        "bias": float(np.expm1(np.median(rows.errors))),
        "p90_error": float(np.quantile(off, 0.9)),
        "too_small": float(np.mean(rows.errors < 0)),
    }
    if rows.held is not None:
        found["interval_holds"] = float(np.mean(rows.held))
    return {name: round(value, 4) for name, value in found.items()}


def by_regime(rows: Scored) -> dict[str, dict[str, float]]:
    """Scores of each method and number of devices, the most rows first."""
    counts = Counter(rows.regimes.tolist()).most_common()
    return {name: score(rows.part(rows.regimes == name)) for name, count in counts if count >= FEWEST}


def regime(setup: Setup) -> str:
    """Method and number of devices."""
    method = {"pretrain": "pretraining", "dpo": "preferences", "ppo": "preferences"}.get(
        setup.objective, METHODS.get(setup.method, "other adapters")
    )
    number = num_devices(setup)
    return f"{method}, {'1 device' if number == 1 else '2-8 devices' if number <= 8 else 'more devices'}"


def against_peers(
    own: Scored, predictions: dict[str, list[float | None]], actual: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Each peer's scores beside the planner's on the same rows."""
    found = {}
    for name, values in predictions.items():
        answered = np.array([value is not None for value in values])
        logs = np.log([value for value in values if value is not None]) - actual[answered]
        theirs = Scored(logs, own.sources[answered], own.regimes[answered])
        found[name] = {
            "all": score(theirs),
            "foretune_on_the_same_rows": score(own.part(answered)),
            "by_regime": by_regime(theirs),
        }
    return found


@contextmanager
def _packaged_table() -> Iterator[None]:
    """Lets memory_fit.use() swap tables inside, and gives the packaged one back."""
    packaged = gpu_memory._memory_coefficients
    try:
        yield
    finally:
        gpu_memory._memory_coefficients = packaged


def _without(rows: memory_fit.Rows, errors: memory_fit.Errors, source: str) -> None:
    """Has the planner predict as if a source had never been seen, its intervals included."""
    rest = rows.sources != source
    bounds, known = memory_fit.intervals(rows, errors, rest), memory_fit.known_frameworks(rows, rest)
    memory_fit.use(memory_fit.table_of(memory_fit._fit_without(rows, source), bounds, memory_fit.RIDGE, known))


def memory_scores() -> tuple[dict[str, Any], Panel]:
    """Peak memory of a device: foretune, peers, verdicts, probes; and the points of the plot."""
    rows = memory_fit.load(OBSERVATIONS)
    measured = ~rows.is_claim
    with _packaged_table():
        errors = memory_fit.Errors(memory_fit.left_out(rows), memory_fit.left_out_by_row(rows))
        answers = _memory_answers(rows, errors)
        probes = {count: memory_fit.probed(rows, count) for count in (1, 2)}
        verdicts = _verdicts(rows, errors, answers) | _verdicts_by_row(rows, errors)
    peaks = np.exp(rows.log_peaks)
    regimes = np.array([regime(setup) for setup in rows.setups], dtype=object)
    held = np.array([one.low_gb <= peak <= one.high_gb for one, peak in zip(answers, peaks, strict=True)])
    logs = np.log([one.expected_gb for one in answers]) - rows.log_peaks
    everything = Scored(logs, rows.sources, regimes, held)
    own = everything.part(measured)
    setups = [setup for setup, keep in zip(rows.setups, measured, strict=True) if keep]
    predictions = {
        peer.name: [_gb(peer.memory(setup)) for setup in setups]
        for peer in plan_peers.PEERS
        if peer.memory is not None and not peer.missing()
    }
    found = {
        "foretune": {
            "all": score(own),
            "batch_and_checkpointing_stated": score(everything.part(rows.is_known)),
            "rows_left_out_at_random": score(Scored(errors.by_row, rows.sources, regimes).part(measured)),
            "framework_withheld": score(Scored(_memory_blind(rows), rows.sources, regimes).part(measured)),
            "whole_repository_left_out": score(_by_repository(rows, regimes).part(measured)),
            "by_regime": by_regime(own),
            **verdicts,
        },
        "peers": against_peers(own, predictions, rows.log_peaks[measured]),
        "after_one_measured_peak": score(Scored(probes[1][0], *_labels(rows, regimes, probes[1][1]))),
        "after_two_measured_peaks": score(Scored(probes[2][0], *_labels(rows, regimes, probes[2][1]))),
    }
    points = [
        (float(peak), float(one.expected_gb), _colour(setup))
        for peak, one, setup, keep in zip(peaks, answers, rows.setups, measured, strict=True)
        if keep
    ]
    return found, Panel("Peak memory of one device, GB", "reported", "predicted", points)


def _by_repository(rows: memory_fit.Rows, regimes: np.ndarray) -> Scored:
    """Errors where all pages of a repository are left out together; elsewhere each page is a source."""
    grouped = replace(rows, sources=np.array([time_fit._source(row["source"]) for row in rows.cells]))
    pages = dict(memory_fit._FITS)
    memory_fit._FITS.clear()
    errors = memory_fit.left_out(grouped)
    held = memory_fit.coverage(grouped, memory_fit.Errors(errors, memory_fit.left_out_by_row(grouped)))
    memory_fit._FITS.clear()
    memory_fit._FITS.update(pages)
    return Scored(errors, grouped.sources, regimes, held)


def _memory_blind(rows: memory_fit.Rows) -> np.ndarray:
    """Errors where no row names its framework."""
    with _without_frameworks() as path:
        blind = memory_fit.load(path)
    errors = np.zeros(len(rows.setups))
    for source in sorted(set(rows.sources)):
        held = rows.sources == source
        errors[held] = memory_fit._fit_without(rows, source).predicted(blind, held) - rows.log_peaks[held]
    return errors


@contextmanager
def _without_frameworks() -> Iterator[Path]:
    """The observed runs with the framework's name withheld."""
    with OBSERVATIONS.open(newline="", encoding="utf-8") as stream:
        rows = [row | {"framework": ""} for row in csv.DictReader(stream)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "observations.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        yield path


def _gb(value: float | None) -> float | None:
    return None if value is None else value / 1e9


def _labels(rows: memory_fit.Rows, regimes: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.sources[indices], regimes[indices]


def _memory_answers(rows: memory_fit.Rows, errors: memory_fit.Errors) -> list[gpu_memory.GpuMemory]:
    answers: dict[int, gpu_memory.GpuMemory] = {}
    for source in sorted(set(rows.sources)):
        _without(rows, errors, source)
        answers |= {
            index: gpu_memory.peak_memory(rows.setups[index]) for index in np.flatnonzero(rows.sources == source)
        }
    return [answers[index] for index in range(len(rows.setups))]


def _verdicts(
    rows: memory_fit.Rows, errors: memory_fit.Errors, answers: Sequence[gpu_memory.GpuMemory]
) -> dict[str, float | int]:
    """How often `fits` was wrong, on runs that failed for memory and on runs that did not."""
    with OBSERVATIONS.open(newline="", encoding="utf-8") as stream:
        failed = [row for row in csv.DictReader(stream) if "oom" in row["notes"].lower() and not row["peak_mem_gb"]]
    wrong = 0
    for row in failed:
        setup, _ = setup_of(row)
        _without(rows, errors, memory_fit.source_of(row))
        wrong += gpu_memory.peak_memory(setup).fits(usable_gb(setup))
    ran = [
        (one, usable_gb(setup), math.exp(log_peak))
        for one, setup, log_peak, claim in zip(answers, rows.setups, rows.log_peaks, rows.is_claim, strict=True)
        if not claim
    ]
    sized = [(one.fits(memory), peak / memory) for one, memory, peak in ran if memory]
    refused = [used for fits, used in sized if not fits]
    return {
        "failed_runs": len(failed),
        "failed_runs_called_fitting": wrong,
        "said_to_fit_but_did_not": round(wrong / max(1, wrong + len(sized) - len(refused)), 4),
        "successful_runs": len(sized),
        "successful_runs_called_too_large": len(refused),
        "median_share_of_memory_that_these_used": round(float(np.median(refused or [1.0])), 4),
        "peaks_above_the_bound_of_fits": round(
            sum(peak > max(one.high_gb, one.fit_gb) for one, _, peak in ran) / len(ran), 4
        ),
    }


def _verdicts_by_row(rows: memory_fit.Rows, errors: memory_fit.Errors) -> dict[str, float]:
    """The same for runs of known sources: random groups of rows left out."""
    folds, above, refused = memory_fit.folds_of(rows), [], []
    for fold in range(memory_fit.FOLDS):
        rest = folds != fold
        bounds, known = memory_fit.intervals(rows, errors, rest), memory_fit.known_frameworks(rows, rest)
        memory_fit.use(memory_fit.table_of(memory_fit.fit(rows, rest), bounds, memory_fit.RIDGE, known))
        for index in np.flatnonzero(~rest & ~rows.is_claim).tolist():
            answer, memory = gpu_memory.peak_memory(rows.setups[index]), usable_gb(rows.setups[index])
            above.append(math.exp(rows.log_peaks[index]) > max(answer.high_gb, answer.fit_gb))
            refused += [not answer.fits(memory)] if memory else []
    return {
        "peaks_above_the_bound_rows_left_out": round(float(np.mean(above)), 4),
        "successful_runs_called_too_large_rows_left_out": round(float(np.mean(refused)), 4),
    }


def time_scores() -> tuple[dict[str, Any], Panel]:
    """Time of a step or run: foretune, peers, one measured speed; and the points of the plot."""
    rows, left = time_fit.read(OBSERVATIONS)
    errors, models = time_fit.left_out(rows, lambda row: row.source)
    folds, _ = time_fit.left_out(rows, time_fit.fold_of)
    held = time_fit.coverage(rows, errors, folds, lambda row: row.source, errors, models)
    after, after_held, kept = time_fit.calibrated_errors(rows, models)
    everything = Scored(
        errors,
        np.array([row.source for row in rows]),
        np.array([regime(row.setup) for row in rows], dtype=object),
        held,
    )
    clear = np.array([not row.is_vague for row in rows])
    families, _ = time_fit.left_out(rows, time_fit.family_of)
    by_family, by_row = replace(everything, errors=families, held=None), replace(everything, errors=folds, held=None)
    own = everything.part(clear)
    measured = [row for row in rows if not row.is_vague]
    predictions = {
        peer.name: [peer.time(row.setup, row.work) for row in measured]
        for peer in plan_peers.PEERS
        if peer.time is not None and not peer.missing()
    }
    calibrated = Scored(after, everything.sources[kept], everything.regimes[kept], after_held)
    is_single = np.array([time_fit.is_single(row) for row in measured])
    found = {
        "foretune": {
            "all": score(own),
            "one_device_fine_tuning": score(own.part(is_single)),
            "whole_framework_left_out": score(by_family.part(clear)),
            "one_device_fine_tuning_framework_left_out": score(by_family.part(clear).part(is_single)),
            "rows_left_out_at_random": score(by_row.part(clear)),
            "one_device_fine_tuning_rows_left_out": score(by_row.part(clear).part(is_single)),
            "framework_withheld": score(_time_blind(models)),
            "by_regime": by_regime(own),
        },
        "peers": against_peers(own, predictions, np.log([row.seconds for row in measured])),
        "after_one_measured_speed": score(calibrated),
        "rows_without_an_amount_of_work": sum(left.values()),
    }
    points = [_time_point(row, error) for row, error in zip(measured, own.errors, strict=True)]
    return found, Panel("Seconds of one device for 1,000 tokens", "reported", "predicted", points)


def _time_blind(models: dict[str, Any]) -> Scored:
    """Errors where no row names its framework."""
    with _without_frameworks() as path:
        rows = [row for row in time_fit.read(path)[0] if not row.is_vague]
    errors = []
    for row in rows:
        model = models[row.source]
        startup = model.coefficients["startup"] * row.startup_share
        errors.append(math.log((predicted(row.setup, model).micro_seconds + startup) / row.seconds))
    regimes = np.array([regime(row.setup) for row in rows], dtype=object)
    return Scored(np.array(errors), np.array([row.source for row in rows]), regimes)


def _time_point(row: time_fit.Row, error: float) -> tuple[float, float, str]:
    seconds = row.seconds * num_devices(row.setup) / row.work.reported_tokens * 1000
    return seconds, seconds * math.exp(error), _colour(row.setup)


def _colour(setup: Setup) -> str:
    """The regime by which the plot colours a run."""
    if setup.objective == "pretrain":
        return "pretraining"
    if num_devices(setup) > 1:
        return "fine-tuning, many devices"
    return {"lora": "LoRA, 1 device", "qlora": "QLoRA, 1 device", "full": "full, 1 device"}.get(
        setup.method, "other adapters, 1 device"
    )


def table(title: str, found: dict[str, Any]) -> Iterator[str]:
    """Lines of the table of one quantity."""
    yield f"\n{title}"
    yield f"{'':40s} rows  median  near  macro: median  near    p90   bias  small  holds   foretune there"
    own = found["foretune"]
    for name in OWN_LINES:
        if name in own:
            yield _line("foretune, " + name.replace("_", " "), own[name])
    for name in [name for name in found if name.startswith("after_")]:
        yield _line("foretune, " + name.replace("_", " "), found[name])
    for name, scores in found["peers"].items():
        yield _line(name, scores["all"], scores["foretune_on_the_same_rows"])
    for name, values in own["by_regime"].items():
        yield _line("  " + name, values)
        for peer, scores in found["peers"].items():
            if name in scores["by_regime"]:
                yield _line("    " + peer, scores["by_regime"][name])


def _line(name: str, s: dict[str, float], same: dict[str, float] | None = None) -> str:
    text = f"{name[:40]:40s} {s['rows']:4.0f}  {s['median_error']:6.1%} {s['within_20_percent']:5.0%}"
    text += f"         {s['macro_median_error']:6.0%} {s['macro_within_20_percent']:5.0%}  {s['p90_error']:5.0%}"
    text += f" {s['bias']:+6.0%}  {s['too_small']:5.0%}  "
    text += f"{s['interval_holds']:5.0%}" if "interval_holds" in s else "     "
    return text + (f"   {same['median_error']:6.1%} {same['within_20_percent']:5.0%}" if same else "")


def measure() -> dict[str, Any]:
    """Scores of both quantities; the plot and the table on the way."""
    if not OBSERVATIONS.is_file():
        raise SystemExit(f"needs the observed runs in {OBSERVATIONS.parent.name}/ beside the repository; not there")
    memory, memory_panel = memory_scores()
    time, time_panel = time_scores()
    draw([memory_panel, time_panel], IMAGE)
    peers = {peer.name: peer.missing() or peer.version() or "computed here" for peer in plan_peers.PEERS}
    lines = [*table("peak memory, source left out", memory), *table("time, source left out", time), ""]
    lines += [f"{name}: {value}" for name, value in memory["foretune"].items() if not isinstance(value, dict)]
    lines += [f"{name}: {text}" for name, text in peers.items()]
    print("\n".join(lines), file=sys.stderr)
    return {
        "metrics": {"memory": memory, "time": time},
        "config": {"observations": OBSERVATIONS.name, "peers": peers, "near": NEAR},
    }


if __name__ == "__main__":
    measure()
