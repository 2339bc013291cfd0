"""Runs on the same samples: paired differences only, Holm over the claims, the settings beside the scores."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from foretune.compare.answers import Scored, Variant
from foretune.compare.slices import Slices, compare_slices, default_slices
from foretune.errors import DataError
from foretune.records.comparison import OfflineClaim, OfflineResult, VariantRow
from foretune.stats.multiplicity import holm
from foretune.stats.paired import PairedResult, compare_paired
from foretune.stats.verdict import Verdict, verdict

__all__ = ["compare_variants"]

ALPHA = 0.05
MISSING_SHARE = 0.05  # more samples than this without an answer, and the common ones may be a choice
FALLBACKS = ("accuracy", "exact_match")


class _Pair(NamedTuple):
    """One claim before it is corrected."""

    candidate: Variant
    metric: str
    result: PairedResult


class _Common(NamedTuple):
    """Samples that every variant answered, and how many each one lacks."""

    ids: tuple[str, ...]
    missing: dict[str, int]


def compare_variants(
    variants: Sequence[Variant],
    *,
    metric: str = "",
    groups: Mapping[str, str] | None = None,
    slices: Mapping[str, str] | None = None,
) -> OfflineResult:
    """Compare every variant with the first. `groups` and `slices` map sample ids to a group and to a slice.

    The verdict is on the primary metric alone, at alpha divided by the number of candidates; the other metrics are
    claims of their own family, corrected by Holm. Raises DataError where the variants share no sample or metric.
    """
    baseline, candidates = variants[0], variants[1:]
    common = _common(variants)
    warnings: list[str] = []
    fixed = baseline.evaluation.primary_metric
    primary = _primary(metric, fixed, variants, common.ids, warnings)
    common = _with_metric(common, variants, primary)
    names = [name for name in _metrics(variants, common.ids) if name != primary]
    look = max(variant.evaluation.look for variant in variants)
    owner = _groups(baseline, common.ids, groups)
    margin = baseline.evaluation.margin

    def compared(candidate: Variant, name: str, ids: Sequence[str], share: int = 1) -> PairedResult:
        return _paired(baseline, candidate, name, ids, owner, ALPHA / share, look, margin)

    first = [_Pair(each, primary, compared(each, primary, common.ids, len(candidates))) for each in candidates]
    others = [_Pair(each, name, compared(each, name, common.ids)) for each in candidates for name in names]
    hole = _hole(common)
    members = _members(baseline, common.ids, slices)
    tested = []
    for each in candidates:
        rows_of = partial(_rows_compared, compared, each, primary, common.ids)
        tested.append(_prefixed(compare_slices(members, rows_of), each.name if len(candidates) > 1 else ""))
    return OfflineResult(
        primary_metric=primary,
        chosen_after="" if primary == fixed else fixed,
        n=len(common.ids),
        variants=_rows(variants, common.ids, [primary, *names]),
        claims=(*_claims(baseline, first, margin, hole), *_claims(baseline, others)),
        slices=tuple(result for found in tested for result in found.results),
        slices_too_small=sum(found.too_small for found in tested),
        missing=common.missing,
        warnings=(*warnings, *_warnings(variants, common, look)),
    )


def _rows_compared(
    compared: Callable[[Variant, str, Sequence[str]], PairedResult],
    candidate: Variant,
    metric: str,
    ids: Sequence[str],
    rows: Sequence[int],
) -> PairedResult:
    return compared(candidate, metric, [ids[row] for row in rows])


def _common(variants: Sequence[Variant]) -> _Common:
    every = {sample for variant in variants for sample in variant.answers}
    ids = [sample for sample in variants[0].answers if all(sample in variant.answers for variant in variants)]
    if not ids:
        raise DataError(
            f"{variants[0].name} and {variants[-1].name} share no sample of {len(every):,}, expected one test split",
            fix="evaluate both runs on the same data version: foretune evaluate RUN",
        )
    for sample in ids:
        expected = {variant.answers[sample].expected for variant in variants}
        if len(expected) > 1:
            both = " and ".join(sorted(repr(text[:40]) for text in expected))
            raise DataError(
                f"sample {sample} expects {both}: not the same data",
                fix="evaluate both runs on the same data version: foretune evaluate RUN",
            )
    return _Common(tuple(ids), {variant.name: len(every) - len(variant.answers) for variant in variants})


def _with_metric(common: _Common, variants: Sequence[Variant], metric: str) -> _Common:
    """Without the samples whose answer could not be scored; they count as missing for that variant."""
    lacking = dict(common.missing)
    for variant in variants:
        lacking[variant.name] += sum(metric not in variant.answers[sample].scores for sample in common.ids)
    ids = tuple(s for s in common.ids if all(metric in variant.answers[s].scores for variant in variants))
    return _Common(ids, lacking)


def _primary(asked: str, fixed: str, variants: Sequence[Variant], ids: Sequence[str], warnings: list[str]) -> str:
    """The metric asked for, else the one fixed before training, else one that stands in for a metric of whole splits.

    Raises DataError where the runs lack it.
    """
    scored = {name for variant in variants for sample in ids for name in variant.answers[sample].scores}
    everywhere = [
        name for name in sorted(scored)
        if all(any(name in variant.answers[sample].scores for sample in ids) for variant in variants)
    ]  # fmt: skip
    if (asked or fixed) in everywhere:
        return asked or fixed
    for name in FALLBACKS if not asked else ():
        if name in everywhere:
            warnings.append(f"{fixed} has no score a sample, so the runs are compared on {name}")
            return name
    found = ", ".join(everywhere) or "none"
    raise DataError(f"no score of {asked or fixed!r} for each sample in every run; found: {found}", fix="--metric NAME")


def _metrics(variants: Sequence[Variant], ids: Sequence[str]) -> list[str]:
    """Metrics that every variant has on every common sample."""
    sets = [set(variant.answers[sample].scores) for variant in variants for sample in ids]
    return sorted(set.intersection(*sets))


def _groups(baseline: Variant, ids: Sequence[str], given: Mapping[str, str] | None) -> dict[str, str] | None:
    found = {sample: (given or {}).get(sample, "") or baseline.answers[sample].group for sample in ids}
    if not any(found.values()):
        return None
    return {sample: group or f"sample {sample}" for sample, group in found.items()}


def _paired(
    baseline: Variant,
    candidate: Variant,
    metric: str,
    ids: Sequence[str],
    owner: Mapping[str, str] | None,
    alpha: float,
    look: int,
    margin: float,
) -> PairedResult:
    ours, theirs = ([variant.answers[sample].scores[metric] for sample in ids] for variant in (baseline, candidate))
    scores = np.array([*ours, *theirs])
    is_binary = bool(np.isin(scores, (0.0, 1.0)).all())
    return compare_paired(
        ours,
        theirs,
        "binary" if is_binary else "graded",
        None if owner is None else [owner[sample] for sample in ids],
        alpha,
        look,
        margin=margin,
        score_range=(0.0, 1.0) if scores.min() >= 0 and scores.max() <= 1 else None,
    )


def _hole(common: _Common) -> str:
    most = max(common.missing.values())
    if most <= MISSING_SHARE * (len(common.ids) + most):
        return ""
    names = ", ".join(f"{name} lacks {count:,}" for name, count in common.missing.items() if count)
    rest = f"the {len(common.ids):,} that all answered may be the easy ones"
    return f"No verdict from a hole: {names} of the samples; {rest}."


def _claims(
    baseline: Variant, pairs: Sequence[_Pair], margin: float | None = None, hole: str = ""
) -> tuple[OfflineClaim, ...]:
    """The claims of one family; with a margin they are the primary ones and carry a verdict."""
    adjusted = holm([pair.result.p_value for pair in pairs])
    claims = []
    for pair, p_adjusted in zip(pairs, adjusted, strict=True):
        result = pair.result
        said = None if margin is None else Verdict("inconclusive", hole) if hole else verdict(result, margin)
        claims.append(
            OfflineClaim(
                baseline=baseline.name,
                candidate=pair.candidate.name,
                metric=pair.metric,
                is_primary=margin is not None,
                n=result.n,
                value=result.value,
                ci_low=result.ci_low,
                ci_high=result.ci_high,
                p_value=result.p_value,
                p_adjusted=p_adjusted,
                supported=p_adjusted <= ALPHA and not hole,
                method=result.method,
                smallest_visible_difference=result.smallest_visible_difference,
                n_needed=said.n_needed if said else result.n_needed,
                verdict=said.value if said else None,
                reason=said.reason if said else "",
            )
        )
    return tuple(claims)


def _members(baseline: Variant, ids: Sequence[str], given: Mapping[str, str] | None) -> dict[str, list[bool]]:
    if given is None:
        rows: list[Scored] = [baseline.answers[sample] for sample in ids]
        return default_slices([row.expected for row in rows], [row.prompt for row in rows])
    names = sorted({given[sample] for sample in ids if sample in given})
    return {name: [given.get(sample) == name for sample in ids] for name in names}


def _prefixed(found: Slices, name: str) -> Slices:
    if not name:
        return found
    renamed = tuple(one.model_copy(update={"slice": f"{name}: {one.slice}"}) for one in found.results)
    return Slices(renamed, found.too_small)


def _rows(variants: Sequence[Variant], ids: Sequence[str], metrics: Sequence[str]) -> tuple[VariantRow, ...]:
    differing = {
        name
        for variant in variants
        for name in variant.settings
        if any(other.settings.get(name) != variant.settings[name] for other in variants)
    }
    return tuple(
        VariantRow(
            name=variant.name,
            run_id=variant.run_id,
            system=variant.system,
            n=len(ids),
            scores={name: float(np.mean([variant.answers[sample].scores[name] for sample in ids])) for name in metrics},
            settings={name: variant.settings.get(name) for name in sorted(differing)},
        )
        for variant in variants
    )


def _warnings(variants: Sequence[Variant], common: _Common, look: int) -> list[str]:
    warnings = [f"{name}: {count:,} samples without a scored answer" for name, count in common.missing.items() if count]
    if len({variant.evaluation.dataset_version for variant in variants}) > 1:
        warnings.append("the runs have different data versions; only samples with the same id and answer are compared")
    if look > 1:
        warnings.append(f"look {look} at this test split: the level is divided by {look}")
    return warnings
