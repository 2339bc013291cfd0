"""Fits the planner's memory factors on reported runs and scores them on sources the fit never saw.

Run: python benchmarks/plan_fit_memory.py ../shared/observations.csv [--write] [--worst 20]
"""

# SPDX-License-Identifier: Apache-2.0
#
# Leave-one-source-out: every row is predicted by factors fitted without any row of its source, and its interval by
# residuals of other sources. --write stores the fit on all rows in src/foretune/plan/coefficients.json.
from __future__ import annotations

import argparse
import csv
import json
import math
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from foretune.plan import gpu_memory
from foretune.plan.frameworks import framework_of
from foretune.plan.gpu_memory import FACTORS, Circumstances, kind_of, parts_of, peak_memory, regime_of
from foretune.plan.gpu_terms import Terms, terms_of
from foretune.plan.rows import setup_of
from foretune.plan.setup import Setup

COEFFICIENTS = Path(__file__).parents[1] / "src" / "foretune" / "plan" / "coefficients.json"
NAMES = tuple(FACTORS)
# How far a factor may lie from its prior, as a standard deviation of its logarithm.
SPREAD = {
    "weights": 0.03,
    "saved": 0.12,
    "inputs": 0.2,
    "layer": 0.4,
    "logits": 0.06,
    "quantised_inputs": 0.3,
    "adapter_inputs": 0.3,
    "gathered": 0.3,
    "optimiser": 0.15,
    "scores": 0.3,
    "step": 0.3,
    "slack": 0.3,
    "runtime": 0.2,
    "comm": 0.7,
    "buckets": 0.5,
}
FRAMEWORK_SPREAD = 0.35
RESIDUAL = 0.10  # a usual relative error of a row
BEND = 1.5  # in such errors, where a row's pull stops growing with its error
COVERED = 0.83  # share of the rows that give an interval within it, so that four of five new ones are
BELOW = {
    "known": 0.98,
    "new": 0.96,
    "batch": 0.985,
    "probed": 0.95,
}  # share below the bound that `fits` uses, by a regime's first word
FEWEST = 8  # rows that state their batch from which on a framework counts as known
FOLDS = 4


@dataclass(frozen=True)
class Rows:
    """Rows with a measured peak, and what the fit needs of them as arrays."""

    cells: list[dict[str, str]]
    setups: list[Setup]
    terms: Terms
    around: Circumstances
    frameworks: np.ndarray
    sources: np.ndarray
    kinds: np.ndarray
    log_peaks: np.ndarray
    is_known: np.ndarray
    is_claim: np.ndarray


def source_of(row: dict[str, str]) -> str:
    """Rows that one publication reports: result files of one study and pages of one repository count together."""
    text = row["source"].split("/results/")[0]
    return " ".join(text.split()[:1]) if " examples/" in text else text


def load(path: Path) -> Rows:
    """All rows with a peak."""
    with path.open(newline="", encoding="utf-8") as stream:
        cells = [row for row in csv.DictReader(stream) if row["peak_mem_gb"]]
    setups = [setup_of(row)[0] for row in cells]
    single = [terms_of(setup) for setup in setups]
    around = [Circumstances.of(setup) for setup in setups]
    stated = ("seq_len", "micro_batch", "activation_checkpointing")
    claims = [setup.method == "weights" or "ESTIMATE" in row["notes"] for row, setup in zip(cells, setups, strict=True)]
    known = [all(row[name] not in ("", "?") for name in stated) and "CLAIM" not in row["notes"] for row in cells]
    return Rows(
        cells=cells,
        setups=setups,
        terms=Terms(**{item.name: np.array([getattr(t, item.name) for t in single]) for item in fields(Terms)}),
        around=Circumstances(
            **{item.name: np.array([getattr(a, item.name) for a in around]) for item in fields(Circumstances)}
        ),
        frameworks=np.array([framework_of(setup.framework).name for setup in setups], dtype=object),
        sources=np.array([source_of(row) for row in cells]),
        kinds=np.array([kind_of(setup) for setup in setups]),
        log_peaks=np.log([float(row["peak_mem_gb"]) for row in cells]),
        is_known=np.array(known),
        is_claim=np.array(claims),
    )


def _row_weights(rows: Rows, mask: np.ndarray) -> np.ndarray:
    """Each source counts by the root of its rows; rows that state little, or that nobody measured, count little."""
    sizes = Counter(rows.sources[mask])
    each = np.array([1 / math.sqrt(sizes.get(source, 1)) for source in rows.sources])
    return 2 * each * np.where(rows.is_claim, 0.002, np.where(rows.is_known, 1.0, 0.01))


def _taken(table: Any, mask: np.ndarray, **changes: Any) -> Any:
    return type(table)(**({item.name: getattr(table, item.name)[mask] for item in fields(table)} | changes))


@dataclass(frozen=True)
class Fit:
    """Factors by name, and what each framework multiplies activations by."""

    factors: dict[str, float]
    frameworks: dict[str, float]

    def predicted(self, rows: Rows, mask: np.ndarray) -> np.ndarray:
        """Logarithms of the predicted peaks in GB."""
        framework = np.array([self.frameworks.get(name, 1.0) for name in rows.frameworks[mask]])
        around = _taken(rows.around, mask, framework=framework)
        parts = parts_of(_taken(rows.terms, mask), around, self.factors)
        return np.log(parts.peak(lambda *moments: np.maximum.reduce(moments)) / 1e9)


def fit(rows: Rows, mask: np.ndarray) -> Fit:
    """Robust least squares on relative errors, each factor held near its prior."""
    names = sorted(set(rows.frameworks[mask]))
    weights = np.sqrt(_row_weights(rows, mask)[mask])
    spread = np.array([SPREAD[name] for name in NAMES])

    def built(vector: np.ndarray) -> Fit:
        factors = {name: FACTORS[name] * math.exp(value) for name, value in zip(NAMES, vector, strict=False)}
        effects = {name: math.exp(value) for name, value in zip(names, vector[len(NAMES) :], strict=True)}
        return Fit(factors, effects)

    def residuals(vector: np.ndarray) -> np.ndarray:
        error = (built(vector).predicted(rows, mask) - rows.log_peaks[mask]) / RESIDUAL
        bent = np.sign(error) * BEND * np.sqrt(2 * (np.sqrt(1 + (error / BEND) ** 2) - 1))
        return np.concatenate([weights * bent, vector[: len(NAMES)] / spread, vector[len(NAMES) :] / FRAMEWORK_SPREAD])

    return built(least_squares(residuals, np.zeros(len(NAMES) + len(names)), max_nfev=60).x)


def left_out(rows: Rows) -> np.ndarray:
    """Errors (log predicted / measured), each source predicted by a fit without it."""
    errors = np.zeros(len(rows.log_peaks))
    for source in sorted(set(rows.sources)):
        held = rows.sources == source
        errors[held] = _fit_without(rows, source).predicted(rows, held) - rows.log_peaks[held]
    return errors


def left_out_by_row(rows: Rows) -> np.ndarray:
    """The same, random groups of rows left out: errors of frameworks that the fit has seen."""
    folds = folds_of(rows)
    errors = np.zeros(len(rows.log_peaks))
    for fold in range(FOLDS):
        held = folds == fold
        errors[held] = fit(rows, ~held).predicted(rows, held) - rows.log_peaks[held]
    return errors


def folds_of(rows: Rows) -> np.ndarray:
    """The random group of every row, always the same one."""
    return np.array([zlib.crc32(row["id"].encode()) % FOLDS for row in rows.cells])


class Errors(NamedTuple):
    """Errors of every row by fits that left out its source, and by fits that left out its random group."""

    by_source: np.ndarray
    by_row: np.ndarray


def known_frameworks(rows: Rows, mask: np.ndarray) -> frozenset[str]:
    """Frameworks that enough rows tell of."""
    counts = Counter(rows.frameworks[mask & rows.is_known & ~rows.is_claim])
    return frozenset(name for name, count in counts.items() if count >= FEWEST and name != "any")


def regimes_of(rows: Rows, known: frozenset[str]) -> np.ndarray:
    """The regime of every row where `known` are the frameworks that a fit has learnt from."""
    return np.array([regime_of(setup, known) for setup in rows.setups], dtype=object)


def intervals(rows: Rows, errors: Errors, mask: np.ndarray) -> dict[str, dict[str, float]]:
    """Log ratios of measured to predicted, per doubt, that bound each regime, from the errors of the rows in `mask`.

    Known frameworks are bound by what rows left out at random were off, all others by what left-out sources were.
    """
    tail = (1 - COVERED) / 2
    known = known_frameworks(rows, mask)
    is_known = np.isin(rows.frameworks, list(known))
    found = {}
    for regime in ("batch not stated", *(f"{word} framework, {kind}" for word in ("known", "new") for kind in EQUAL)):
        word, kind = regime.split()[0], regime.rpartition(", ")[2]
        some = errors.by_row if word == "known" else errors.by_source
        near = mask & ~rows.is_claim
        if word == "known" and known:
            near &= is_known
        sizes = Counter(rows.sources[near])
        share = np.where(rows.kinds == kind, 1.0, OTHER_KINDS)
        weights = np.array([sizes.get(source, 1) ** -0.5 for source in rows.sources]) * share
        quantiles = _quantiles(-some[near] / doubts(rows, some)[near], weights[near], (tail, 1 - tail, BELOW[word]))
        found[regime] = _bounds(quantiles)
    return found


EQUAL = ("rows of equal length", "rows of unequal length")
OTHER_KINDS = 0.08  # weight of a row of another kind: few rows, fat tails
LEAST_WIDTH = 0.03  # no interval is narrower to either side


def _bounds(quantiles: list[float]) -> dict[str, float]:
    low, high = min(-LEAST_WIDTH, quantiles[0]), max(LEAST_WIDTH, quantiles[1])
    return {"low": round(low, 4), "high": round(high, 4), "fit": round(max(high, quantiles[2]), 4)}


def doubts(rows: Rows, errors: np.ndarray) -> np.ndarray:
    """The doubt of each row's prediction."""
    terms, total = rows.terms, np.exp(rows.log_peaks + errors) * 1e9
    counted = terms.weights + terms.dense + terms.adapters + terms.gradients + terms.optimiser
    return np.asarray(gpu_memory.doubt(total, np.minimum(counted, total)))


def _quantiles(values: np.ndarray, weights: np.ndarray, at: tuple[float, ...]) -> list[float]:
    order = np.argsort(values)
    total = np.cumsum(weights[order]) - weights[order] / 2
    return [float(np.interp(share * weights.sum(), total, values[order])) for share in at]


def coverage(rows: Rows, errors: Errors) -> np.ndarray:
    """Whether each row lies in an interval made of other sources' errors."""
    inside, doubt = np.zeros(len(rows.log_peaks), dtype=bool), doubts(rows, errors.by_source)
    for source in set(rows.sources):
        held = rows.sources == source
        bounds, regimes = intervals(rows, errors, ~held), regimes_of(rows, known_frameworks(rows, ~held))
        for index in np.flatnonzero(held):
            spread = bounds[regimes[index]]
            inside[index] = spread["low"] <= -errors.by_source[index] / doubt[index] <= spread["high"]
    return inside


def line(name: str, errors: np.ndarray, inside: np.ndarray | None = None) -> str:
    """One line of the table."""
    off = np.abs(np.exp(errors) - 1)
    text = f"{name[:44]:44s} n {len(off):4d}  median {np.median(off):6.1%}  within 20 % {np.mean(off <= 0.2):6.1%}"
    text += f"  p90 {np.quantile(off, 0.9):6.1%}  bias {np.expm1(np.median(errors)):+6.1%}"
    return text + (f"  covered {np.mean(inside):6.1%}" if inside is not None else "")


def report(rows: Rows, errors: np.ndarray, inside: np.ndarray) -> None:
    """The table: overall, by regime, by method and number of devices, by source."""
    measured = ~rows.is_claim
    print(line("all rows", errors, inside))
    print(line("measured rows", errors[measured], inside[measured]))
    print(line("measured, batch and checkpointing stated", errors[rows.is_known], inside[rows.is_known]))
    keys = {
        "kind": rows.kinds,
        "method": np.array([f"{s.method}, {'1 GPU' if s.num_gpus == 1 else 'many GPUs'}" for s in rows.setups]),
        "source": rows.sources,
    }
    for title, key in keys.items():
        print(f"by {title}")
        for value, count in Counter(key[measured]).most_common():
            chosen = measured & (key == value)
            if count >= 3:
                print("  " + line(value, errors[chosen], inside[chosen]))


def table_of(
    found: Fit, bounds: dict[str, dict[str, float]], ridge: dict[str, float], known: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """What gpu_memory.py reads."""
    return {
        "known": sorted(known),
        "factors": {name: round(value, 4) for name, value in found.factors.items()},
        "frameworks": {name: round(value, 3) for name, value in found.frameworks.items() if name != "any"},
        "intervals": bounds,
        "calibration": ridge,
    }


def use(table: dict[str, Any]) -> None:
    """Has the planner predict with another table than the stored one."""
    gpu_memory._memory_coefficients = lambda: table  # type: ignore[assignment]


def false_fits(path: Path) -> str:
    """Runs reported to have failed for memory that the planner calls fitting."""
    with path.open(newline="", encoding="utf-8") as stream:
        failed = [row for row in csv.DictReader(stream) if "oom" in row["notes"].lower() and not row["peak_mem_gb"]]
    setups = [setup_of(row)[0] for row in failed]
    wrong = [row["id"] for row, s in zip(failed, setups, strict=True) if peak_memory(s).fits(s.device_memory_gb)]
    return f"{len(wrong)} of {len(failed)} failed runs called fitting {wrong}"


RIDGE = {"noise": 0.05, "offset": 0.08, "slope": 0.5}
ANY_BOUNDS = defaultdict(lambda: {"low": 0.0, "high": 0.0, "fit": 0.0})


def probed(rows: Rows, count: int, ridge: dict[str, float] = RIDGE) -> tuple[np.ndarray, np.ndarray]:
    """Errors after `count` measured peaks of the same job at other batches, by a fit without its source; rows."""
    groups = defaultdict(list)
    for index, (row, setup) in enumerate(zip(rows.cells, rows.setups, strict=True)):
        if rows.is_known[index]:
            groups[_job(row, setup)].append(index)
    wanted = defaultdict(list)
    for members in groups.values():
        for index in members:
            probes = _probes(rows, members, index, count)
            if len(probes) == count:
                wanted[rows.sources[index]].append((index, probes))
    errors, indices = [], []
    for source, cases in wanted.items():
        use(table_of(_fit_without(rows, source), ANY_BOUNDS, ridge))
        for index, probes in cases:
            pairs = [(rows.setups[probe], math.exp(rows.log_peaks[probe])) for probe in probes]
            answer = gpu_memory.calibrated(rows.setups[index], pairs)
            errors.append(math.log(answer.expected_gb) - rows.log_peaks[index])
            indices.append(index)
    return np.array(errors), np.array(indices)


_FITS: dict[str, Fit] = {}


def _fit_without(rows: Rows, source: str) -> Fit:
    if source not in _FITS:
        _FITS[source] = fit(rows, rows.sources != source)
    return _FITS[source]


JOB = ("source", "model", "method", "precision/quantization", "gpu", "n_gpus", "parallelism", "framework")


def _job(row: dict[str, str], setup: Setup) -> tuple[Any, ...]:
    """What stays the same while a probe changes batch and length."""
    same = (setup.rank, setup.target_modules, setup.trains_embeddings, setup.peft_kind, setup.checkpointing)
    return (*(row[name] for name in JOB), *same)


def _probes(rows: Rows, members: list[int], index: int, count: int) -> list[int]:
    """The job's smallest batch and, for two, the largest of the others: what a probe on the machine would run."""
    tokens = {member: rows.setups[member].micro_tokens for member in members}
    others = sorted((m for m in members if tokens[m] != tokens[index]), key=lambda member: tokens[member])
    distinct = list({tokens[member]: member for member in others}.values())
    return distinct[:1] if count == 1 else [distinct[0], distinct[-1]] if len(distinct) > 1 else []


def main() -> None:
    """Fits, scores, prints, and with --write stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("observations", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--worst", type=int, default=0)
    options = parser.parse_args()
    rows = load(options.observations)
    both = Errors(left_out(rows), left_out_by_row(rows))
    errors, inside = both.by_source, coverage(rows, both)
    report(rows, errors, inside)
    print(line("rows left out at random", both.by_row[~rows.is_claim]))
    whole = fit(rows, np.ones(len(errors), dtype=bool))
    in_sample = whole.predicted(rows, np.ones(len(errors), dtype=bool)) - rows.log_peaks
    print(line("fitted on all rows (not a score)", in_sample))
    print({name: round(value, 3) for name, value in whole.factors.items()})
    print({name: round(value, 2) for name, value in whole.frameworks.items()})
    everything = np.ones(len(errors), dtype=bool)
    bounds = intervals(rows, both, everything)
    for count, name in ((1, "one probe"), (2, "two probes")):
        after, indices = probed(rows, count)
        print(line(f"after {count} measured peaks", after))
        bounds[name] = probed_bounds(rows, after, indices)
    table = table_of(whole, bounds, RIDGE, known_frameworks(rows, everything))
    use(table)
    print(false_fits(options.observations))
    if options.write:
        _write(rows, errors, table)
    for index in np.argsort(-np.abs(errors))[: options.worst]:
        row = rows.cells[index]
        print(f"{row['id']:20s} {row['model'][:24]:24s} {row['peak_mem_gb']:>8s} GB  {np.expm1(errors[index]):+.0%}")


def probed_bounds(rows: Rows, errors: np.ndarray, indices: np.ndarray) -> dict[str, float]:
    """The interval after probes."""
    sizes = Counter(rows.sources[indices])
    weights = np.array([1 / math.sqrt(sizes[rows.sources[index]]) for index in indices])
    everywhere = np.zeros(len(rows.log_peaks))
    everywhere[indices] = errors
    errors = errors / doubts(rows, everywhere)[indices]
    tail = (1 - COVERED) / 2
    return _bounds(_quantiles(-errors, weights, (tail, 1 - tail, BELOW["probed"])))


def _write(rows: Rows, errors: np.ndarray, table: dict[str, Any]) -> None:
    text = json.loads(COEFFICIENTS.read_text(encoding="utf-8")) if COEFFICIENTS.exists() else {}
    measured = ~rows.is_claim
    off = np.abs(np.exp(errors[measured]) - 1)
    text["memory"] = {
        "about": "Fitted by benchmarks/plan_fit_memory.py on publicly reported peaks; see gpu_memory.FACTORS.",
        "rows": int(measured.sum()),
        "sources": len(set(rows.sources[measured])),
        "left_out": {
            "median_error": round(float(np.median(off)), 4),
            "within_20_percent": round(float(np.mean(off <= 0.2)), 4),
        },
        **table,
    }
    COEFFICIENTS.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
