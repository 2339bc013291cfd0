"""General data among one's own: a tenth to a fifth against forgetting, and only under a licence that allows it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from foretune.data.known import FREER, find_known, subset_licence
from foretune.data.licences import Use, licence_faults
from foretune.data.provenance import provenance_of, with_provenance
from foretune.data.samples import Sample, sample_hash
from foretune.data.subset import ordered_by_seed
from foretune.errors import ConfigError, DataError, GateRefused
from foretune.records.dataset import UNKNOWN_LICENCE, DatasetSource, Provenance

__all__ = ["DEFAULT_FRACTION", "USUAL", "Mix", "mixed", "own_samples"]

USUAL = (0.1, 0.2)  # of the mix
DEFAULT_FRACTION = 0.15


class Mix(NamedTuple):
    """The rows with general ones among them; `fraction` is the share that the general rows have now."""

    samples: list[Sample]
    num_general: int
    fraction: float
    licences: dict[str, int]
    warnings: tuple[str, ...]


def own_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the task itself, without general ones that were mixed in; all of them where no other is there."""
    return [sample for sample in samples if not sample.meta.get("mixed")] or list(samples)


def mixed(
    samples: Sequence[Sample],
    general: Sequence[Sample],
    *,
    fraction: float = DEFAULT_FRACTION,
    use: Use = "commercial",
    sources: Iterable[DatasetSource] = (),
    accept_licences: bool = False,
    seed: int = 0,
) -> Mix:
    """`samples`, with so many general rows by seed that these are `fraction` of the whole.

    General rows that are already among the samples are left out; each carries `meta["mixed"]`. `sources` tell the
    licences of rows that carry none. Raises ConfigError for a fraction outside 0 to 1, DataError where there are too
    few general rows, and GateRefused where a licence forbids it and `accept_licences` is not set.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"fraction is {fraction}, expected 0 to 1, usually 0.1 to 0.2", fix="fraction = 0.15")
    known = {sample_hash(sample) for sample in samples}
    free = [sample for sample in ordered_by_seed(general, seed) if sample_hash(sample) not in known]
    wanted = round(len(samples) * fraction / (1 - fraction))
    if wanted > len(free):
        what = f"{fraction:.0%} of the mix are {wanted} general rows, but there are {len(free)} that are new"
        raise DataError(what, fix="give more general data, or a smaller fraction")
    listed = tuple(sources)
    told = [_origin(sample, listed) for sample in free[:wanted]]
    licences = [provenance.licence for provenance in told]
    faults = licence_faults(licences, use)
    if faults and not accept_licences:
        fix = (
            f"choose freer data, such as {' or '.join(FREER)}; name a licence that you know in source.json beside "
            'the file: {"licence": "CC0-1.0"}; or mix them first: foretune data mix OWN GENERAL MIXED --accept-licences'
        )
        raise GateRefused("; ".join(faults), fix=fix)
    added = [_marked(row, provenance) for row, provenance in zip(free[:wanted], told, strict=True)]
    counts = {licence: licences.count(licence) for licence in sorted(set(licences))}
    return Mix(
        [*samples, *added], len(added), len(added) / max(len(samples) + len(added), 1), counts, _told(fraction, faults)
    )


def _origin(sample: Sample, sources: Iterable[DatasetSource]) -> Provenance:
    """Where a general row came from; of known data the known licence, of a mixture such as Tulu the subset's."""
    found = provenance_of(sample, sources)
    known = find_known(found.source)
    if known is None or (not known.subset_field and found.licence != UNKNOWN_LICENCE):
        return found
    licence = subset_licence(known, sample.meta) if known.subset_field else known.licence
    return found.model_copy(update={"licence": licence})


def _marked(sample: Sample, origin: Provenance) -> Sample:
    marked = replace(sample, meta={**sample.meta, "mixed": {"source": origin.source}})
    return with_provenance(marked, origin)


def _told(fraction: float, faults: list[str]) -> tuple[str, ...]:
    low, high = USUAL
    usual = () if low <= fraction <= high else (f"{fraction:.0%} general data is outside the usual 10 to 20 %",)
    return (*usual, *(f"accepted: {fault}" for fault in faults))
