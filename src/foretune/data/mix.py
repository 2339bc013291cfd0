"""General data among one's own: a tenth to a fifth against forgetting, and only under a licence that allows it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from foretune.data.provenance import provenance_of
from foretune.data.samples import Sample, sample_hash
from foretune.data.subset import ordered_by_seed
from foretune.errors import ConfigError, DataError, GateRefused
from foretune.records.dataset import UNKNOWN_LICENCE, DatasetSource

__all__ = ["USUAL", "Mix", "Use", "licence_faults", "mixed"]

Use = Literal["commercial", "research"]
USUAL = (0.1, 0.2)  # of the mix
FREE = (
    "CC0",
    "MIT",
    "APACHE",
    "BSD",
    "ISC",
    "UNLICENSE",
    "CC-BY",
    "ODC-BY",
    "PDDL",
    "CDLA",
    "ODBL",
    "GFDL",
    "PUBLIC DOMAIN",
)


class Mix(NamedTuple):
    """The rows with general ones among them; `fraction` is the share that the general rows have now."""

    samples: list[Sample]
    num_general: int
    fraction: float
    licences: dict[str, int]
    warnings: tuple[str, ...]


def licence_faults(licences: Iterable[str], use: Use) -> list[str]:
    """Why data under these licences cannot go into the mix; [] where nothing speaks against it.

    Told from the licence's name alone, a reading aid and no legal advice: unknown licences are refused, and
    non-commercial ones for commercial use.
    """
    faults = []
    for licence in sorted(set(licences)):
        name = licence.strip().upper().replace(" ", "-").replace("_", "-")
        parts = name.split("-")
        if not name or licence == UNKNOWN_LICENCE:
            faults.append("the licence of some rows is not known")
        elif "NC" in parts and use == "commercial":
            faults.append(f"{licence} forbids commercial use")
        elif not name.startswith(FREE):
            faults.append(f"{licence} is not a licence that foretune knows")
    return faults


def mixed(
    samples: Sequence[Sample],
    general: Sequence[Sample],
    *,
    fraction: float = 0.1,
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
        raise ConfigError(f"fraction is {fraction}, expected 0 to 1, usually 0.1 to 0.2", fix="fraction = 0.1")
    known = {sample_hash(sample) for sample in samples}
    free = [sample for sample in ordered_by_seed(general, seed) if sample_hash(sample) not in known]
    wanted = round(len(samples) * fraction / (1 - fraction))
    if wanted > len(free):
        what = f"{fraction:.0%} of the mix are {wanted} general rows, but there are {len(free)} that are new"
        raise DataError(what, fix="give more general data, or a smaller fraction")
    told = [provenance_of(sample, sources) for sample in free[:wanted]]
    licences = [provenance.licence for provenance in told]
    faults = licence_faults(licences, use)
    if faults and not accept_licences:
        raise GateRefused("; ".join(faults), fix="choose other general data, or accept it with --accept-licences")
    added = [_marked(row, provenance.source) for row, provenance in zip(free[:wanted], told, strict=True)]
    counts = {licence: licences.count(licence) for licence in sorted(set(licences))}
    return Mix(
        [*samples, *added], len(added), len(added) / max(len(samples) + len(added), 1), counts, _told(fraction, faults)
    )


def _marked(sample: Sample, source: str) -> Sample:
    return replace(sample, meta={**sample.meta, "mixed": {"source": source}})


def _told(fraction: float, faults: list[str]) -> tuple[str, ...]:
    low, high = USUAL
    usual = () if low <= fraction <= high else (f"{fraction:.0%} general data is outside the usual 10 to 20 %",)
    return (*usual, *(f"accepted: {fault}" for fault in faults))
