"""Where each sample came from, and which samples an audience may see."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from foretune.data.samples import Sample, sample_hash
from foretune.errors import DataError
from foretune.records.dataset import SHARE_POLICIES, UNKNOWN_LICENCE, DatasetSource, Provenance, SharePolicy

__all__ = ["PROVENANCE", "Audience", "Shared", "provenance_of", "shareable", "strictest", "with_provenance"]

PROVENANCE = "provenance"  # key of `Sample.meta`, and of the rows that connectors write
Audience = Literal["public", "internal"]


class Shared(NamedTuple):
    """What an audience may see: whole samples, links in place of others, and how many were held back, by policy."""

    samples: tuple[Sample, ...]
    links: tuple[dict[str, str], ...]
    withheld: dict[str, int]


def strictest(policies: Iterable[SharePolicy]) -> SharePolicy:
    """The policy that satisfies all of them; `internal` where there is none."""
    return max(policies, key=SHARE_POLICIES.index, default="internal")


def with_provenance(sample: Sample, provenance: Provenance) -> Sample:
    """The sample with its provenance in `meta`."""
    return replace(sample, meta={**sample.meta, PROVENANCE: provenance.model_dump()})


def provenance_of(sample: Sample, sources: Iterable[DatasetSource] = ()) -> Provenance:
    """Source, licence, time of retrieval, hash and share policy of a sample.

    What the sample itself carries wins; else it is that of the file named in `place`, and the hash is that of the
    content. Raises DataError where the sample carries something else under `provenance`.
    """
    own = sample.meta.get(PROVENANCE)
    if own is not None:
        return _checked(own, sample)
    name = sample.place.rpartition(":")[0] or sample.place
    found = [source for source in sources if PurePath(source.path).name == name]
    if not found:
        return Provenance(source=name, licence=UNKNOWN_LICENCE, retrieved_at="", sha256=sample_hash(sample))
    licences = {source.licence for source in found}
    return Provenance(
        source=found[0].name or found[0].path,
        licence=licences.pop() if len(licences) == 1 else UNKNOWN_LICENCE,
        retrieved_at=max(source.retrieved_at for source in found),
        sha256=sample_hash(sample),
        share=strictest(source.share for source in found),
        url=found[0].url,
    )


def _checked(value: Any, sample: Sample) -> Provenance:
    try:
        return Provenance.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{sample.place or sample.id}: provenance.{place}: {first['msg']}",
            fix='write "provenance": {"source", "licence", "retrieved_at", "sha256", "share"}, or leave it out',
        ) from None


def shareable(
    samples: Iterable[Sample], sources: Iterable[DatasetSource] = (), *, audience: Audience = "public"
) -> Shared:
    """Samples that may go to an audience; nothing of `none` ever leaves, `link-only` leaves as url and hash.

    Internally, everything but `none` may be seen.
    """
    listed = tuple(sources)
    kept: list[Sample] = []
    links: list[dict[str, str]] = []
    withheld: dict[str, int] = {}
    for sample in samples:
        provenance = provenance_of(sample, listed)
        share = provenance.share
        if share == "public" or (audience == "internal" and share != "none"):
            kept.append(sample)
        elif share == "link-only" and provenance.url:
            links.append(_link(provenance, sample.meta))
        else:
            withheld[share] = withheld.get(share, 0) + 1
    return Shared(tuple(kept), tuple(links), withheld)


def _link(provenance: Provenance, meta: Mapping[str, Any]) -> dict[str, str]:
    link = {"url": provenance.url, "sha256": provenance.sha256, "source": provenance.source}
    published = meta.get("published_at")
    return {**link, "published_at": published} if isinstance(published, str) else link
