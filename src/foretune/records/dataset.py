"""`dataset.json`: which data, from where, in which splits, under which version hash."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from foretune.records.base import Record

__all__ = [
    "SHARE_POLICIES",
    "UNKNOWN_LICENCE",
    "DatasetRecord",
    "DatasetSource",
    "Provenance",
    "SharePolicy",
    "SplitInfo",
]

SharePolicy = Literal["public", "link-only", "internal", "none"]  # from the freest to the strictest
SHARE_POLICIES: tuple[SharePolicy, ...] = get_args(SharePolicy)
UNKNOWN_LICENCE = "unknown"


class Provenance(BaseModel):
    """Where one record came from: `retrieved_at` is UTC (ISO 8601), `sha256` of the record as it was received.

    `share` says who may see it: anyone (`public`), anyone but only as a link with its hash (`link-only`), the team
    (`internal`), or nobody outside this data folder (`none`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: str
    licence: str
    retrieved_at: str
    sha256: str
    share: SharePolicy = "internal"
    url: str = ""


class DatasetSource(BaseModel):
    """One file that samples came from; `sha256` is of its bytes, `retrieved_at` UTC (ISO 8601).

    `kind` is file, hub, newsapi, gdelt, log or annotation; `share` as in `Provenance`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    sha256: str
    format: str
    num_rows: int
    licence: str = UNKNOWN_LICENCE
    kind: str = "file"
    name: str = ""
    url: str = ""
    retrieved_at: str = ""
    share: SharePolicy = "internal"


class SplitInfo(BaseModel):
    """Size and content hash of one split."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    num_samples: int
    sha256: str


class DatasetRecord(Record):
    """A data set version: the hash of its samples and of how they are split."""

    file_name: ClassVar[str] = "dataset.json"
    version: str
    task: str  # chat, classify, text or preference
    sources: tuple[DatasetSource, ...]
    splits: dict[str, SplitInfo]  # train, validation, test
    labels: tuple[str, ...] = ()  # classes, sorted; only for task classify
    num_clusters: int = 0  # groups of near-duplicates or declared groups with more than one sample
    seed: int = 0
    num_rejected: int = 0  # faulty rows that were put aside in rejected.jsonl
    warnings: tuple[str, ...] = ()
