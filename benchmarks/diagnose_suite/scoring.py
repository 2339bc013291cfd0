"""How well `diagnose` names what was planted: confusion, rates with exact bounds, and beside it a rule by curves."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from diagnose_suite.cases import ACCEPTED, FAULTS, HEALTHY
from diagnose_suite.pack import Recorded, by_label
from foretune.diagnose.diagnose import judge
from foretune.diagnose.thresholds import DEFAULT, Thresholds

__all__ = ["NOTHING", "Rate", "Scores", "Seen", "curve_rule", "figures", "rate", "report", "scores", "seen"]

NOTHING = "nothing found"


class Rate(NamedTuple):
    """A share with its exact 95 % interval (Clopper and Pearson 1934)."""

    right: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; 0 of nothing."""
        return self.right / self.n if self.n else 0.0

    def __str__(self) -> str:
        return f"{self.right}/{self.n} = {100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def rate(hits: Iterable[bool]) -> Rate:
    """The share of true values with its interval."""
    from scipy.stats import binomtest

    found = list(hits)
    if not found:
        return Rate(0, 0, 0.0, 1.0)
    interval = binomtest(sum(found), len(found)).proportion_ci(method="exact")
    return Rate(sum(found), len(found), float(interval.low), float(interval.high))


class Seen(NamedTuple):
    """What a diagnosis says of a run: the first cause (or `NOTHING`), all of them, and all statistics."""

    run: Recorded
    first: str
    all: tuple[str, ...]
    strengths: dict[str, float]

    @property
    def is_right(self) -> bool:
        """Whether the first cause is what was planted, or nothing was found where nothing was."""
        return self.first in ACCEPTED[self.run.label] if self.run.is_fault else self.first == NOTHING

    @property
    def is_own_name(self) -> bool:
        """Whether the first cause is the fault's own name, where more than one counts as right."""
        return self.run.is_fault and self.first == ACCEPTED[self.run.label][0]

    @property
    def is_listed(self) -> bool:
        """Whether the planted cause is among those found."""
        return bool(set(self.all) & set(ACCEPTED.get(self.run.label, ())))


def seen(run: Recorded, thresholds: Thresholds = DEFAULT, *, without_settings: bool = False) -> Seen:
    """The diagnosis of one run."""
    record = judge(run.evidence, thresholds=thresholds, without_settings=without_settings)
    names = tuple(cause.mode for cause in record.causes)
    return Seen(run, names[0] if names else NOTHING, names, record.statistics)


@dataclass(frozen=True)
class Scores:
    """Every figure of one half."""

    top1: Rate  # faults of medium or severe effect
    own_name: Rate  # of these, where a second name does not count
    per_class: dict[str, Rate]
    listed: Rate
    without_settings: Rate
    curves_alone: Rate
    curves_classes: int
    false_alarms: Rate  # of all runs without a fault
    false_alarms_plain: Rate
    false_alarms_hard: Rate
    curves_false_alarms: Rate
    without_settings_false_alarms: Rate
    mild: Rate  # faults of mild effect named
    none: Rate  # faults without effect named
    matrix: dict[str, Counter[str]]
    severities: dict[str, Counter[str]]
    judged: tuple[Seen, ...]
    num_faults: int


def scores(runs: Sequence[Recorded], thresholds: Thresholds = DEFAULT) -> Scores:
    """Judge every run, with and without settings, and by curves alone."""
    judged = [seen(run, thresholds) for run in runs]
    hidden = [seen(run, thresholds, without_settings=True) for run in runs]
    curves = [curve_rule(run) for run in runs]
    harmful = [one for one in judged if one.run.counts]
    sound = [one for one in judged if not one.run.is_fault]
    named = _shares(harmful, lambda one: one.is_right)
    by_curves = _shares([one for one in curves if one.run.counts], lambda one: one.is_right)
    return Scores(
        top1=rate(one.is_right for one in harmful),
        own_name=rate(one.is_own_name for one in harmful),
        per_class=named,
        listed=rate(one.is_listed for one in harmful),
        without_settings=rate(one.is_right for one in hidden if one.run.counts),
        curves_alone=rate(one.is_right for one in curves if one.run.counts),
        curves_classes=sum(one.value >= 0.5 for one in by_curves.values()),
        false_alarms=rate(not one.is_right for one in sound),
        false_alarms_plain=rate(not one.is_right for one in sound if one.run.label == HEALTHY),
        false_alarms_hard=rate(not one.is_right for one in sound if one.run.label != HEALTHY),
        curves_false_alarms=rate(not one.is_right for one in curves if not one.run.is_fault),
        without_settings_false_alarms=rate(not one.is_right for one in hidden if not one.run.is_fault),
        mild=rate(one.is_right for one in judged if one.run.severity == "mild"),
        none=rate(one.is_right for one in judged if one.run.severity == "none"),
        matrix=_matrix([*harmful, *sound]),
        severities={label: Counter(run.severity for run in some) for label, some in by_label(runs).items()},
        judged=tuple(judged),
        num_faults=sum(run.is_fault for run in runs),
    )


def _shares(judged: Sequence[Seen], hit: Callable[[Seen], bool]) -> dict[str, Rate]:
    labels = [label for label in FAULTS if any(one.run.label == label for one in judged)]
    return {label: rate(hit(one) for one in judged if one.run.label == label) for label in labels}


def _matrix(judged: Iterable[Seen]) -> dict[str, Counter[str]]:
    matrix: dict[str, Counter[str]] = {}
    for one in judged:
        matrix.setdefault(one.run.label, Counter())[one.first] += 1
    return matrix


# --- by curves alone ------------------------------------------------------------------------------------------------


def curve_rule(run: Recorded) -> Seen:
    """What loss curves alone say, by the published rule of Microsoft Foundry's fine-tuning guide.

    Validation over training loss above 1.5, or a last validation above 1.2 times the best: overfitting. A loss that
    rises or breaks off: rate too high; one that hardly falls: too low.
    """
    curves = run.evidence.curves
    train, validation = curves.finite_train, curves.finite_validation
    if curves.first_bad_step is not None or curves.failure or len(train) < 4:
        return _said(run, "learning_rate_too_high")
    ends = max(1, len(train) // 10)
    first, last = (sum(p.loss for p in some) / ends for some in (train[:ends], train[-ends:]))
    if last > first:
        return _said(run, "learning_rate_too_high")
    if validation:
        best = min(point.loss for point in validation)
        if validation[-1].loss > 1.2 * best or validation[-1].loss > 1.5 * max(last, 1e-6):
            return _said(run, "overfitting")
    return _said(run, "learning_rate_too_low" if last > 0.9 * first else NOTHING)


def _said(run: Recorded, name: str) -> Seen:
    return Seen(run, name, () if name == NOTHING else (name,), {})


# --- for people -----------------------------------------------------------------------------------------------------


def figures(found: Scores) -> dict[str, Any]:
    """The figures as plain values, for a file."""
    names = (
        "top1",
        "own_name",
        "listed",
        "without_settings",
        "curves_alone",
        "false_alarms",
        "false_alarms_plain",
        "false_alarms_hard",
        "curves_false_alarms",
        "without_settings_false_alarms",
        "mild",
        "none",
    )
    return {
        **{name: _plain(getattr(found, name)) for name in names},
        "num_faults": found.num_faults,
        "per_class": {label: _plain(share) for label, share in found.per_class.items()},
        "matrix": {label: dict(row) for label, row in found.matrix.items()},
        "effects": {label: dict(row) for label, row in found.severities.items() if label in ACCEPTED},
    }


def _plain(share: Rate) -> dict[str, float]:
    return {"right": share.right, "n": share.n, "low": round(share.low, 4), "high": round(share.high, 4)}


def report(found: Scores, *, details: bool = False) -> str:
    """The figures as text."""
    lines = [
        f"faults planted {found.num_faults}, of medium or severe effect {found.top1.n}",
        f"first cause right          {found.top1}",
        f"  by its own name          {found.own_name}",
        f"true cause in the list     {found.listed}",
        f"without the settings       {found.without_settings}",
        f"curves alone               {found.curves_alone}, {found.curves_classes} of {len(found.per_class)} faults",
        f"false alarms               {found.false_alarms}",
        f"  plain runs               {found.false_alarms_plain}",
        f"  hard but healthy runs    {found.false_alarms_hard}",
        f"  without the settings     {found.without_settings_false_alarms}",
        f"  curves alone             {found.curves_false_alarms}",
        f"faults of mild effect named {found.mild}",
        f"faults without effect named {found.none}",
        "",
        *(f"{label:14} {share}   {_effects(found, label)}" for label, share in found.per_class.items()),
        "",
        *(f"{label:16} -> {_counts(row)}" for label, row in found.matrix.items()),
    ]
    return "\n".join([*lines, "", *(_wrong(one) for one in found.judged if _is_wrong(one))] if details else lines)


def _effects(found: Scores, label: str) -> str:
    counts = found.severities[label]
    return ", ".join(f"{counts[name]} {name}" for name in ("severe", "medium", "mild", "none") if counts[name])


def _counts(row: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in row.most_common())


def _is_wrong(one: Seen) -> bool:
    return not one.is_right and (one.run.counts or not one.run.is_fault)


def _wrong(one: Seen) -> str:
    run = one.run
    effect = "" if run.effect is None else f" effect {run.effect:+.2f}"
    strengths = ", ".join(f"{name} {value:.2f}" for name, value in one.strengths.items() if value >= 0.5)
    return f"{run.name} ({run.task}, {run.method}, {run.notes}{effect}): {one.first}; {strengths}"
