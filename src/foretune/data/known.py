"""The data sets that everybody starts from: their size, their licence, and freer ones for the same use."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from foretune.records.dataset import UNKNOWN_LICENCE

__all__ = ["FREER", "KNOWN_DATASETS", "KnownDataset", "find_known", "subset_licence"]


class KnownDataset(NamedTuple):
    """A public data set that many start from; facts are dated by `source`."""

    id: str
    what: str
    num_rows: int  # of train; 0 = not known
    licence: str
    warning: str
    instead: tuple[str, ...]  # ids of freer sets for the same use
    source: str
    subset_field: str = ""  # of a mixture: the field of a row that names its subset
    subsets: tuple[tuple[str, str], ...] = ()  # part of a subset's name -> its licence


FREER = ("OpenAssistant/oasst1", "databricks/databricks-dolly-15k")  # for general instructions
FACTS = "data set card, read 2026-11-20"
ROWS = "; number of rows from memory"
CARD_READ = "data set card, read 2026-11-21"
MIXTURE = (
    "a mixture whose subsets carry licences of their own, some of them non-commercial: "
    "`foretune data licences` counts the rows of each"
)
SECOND_HAND = "licence from the authors' repository, read 2026-11-20; number of rows from memory"

KNOWN_DATASETS: tuple[KnownDataset, ...] = (
    KnownDataset(
        "tatsu-lab/alpaca",
        "52k instructions with answers by text-davinci-003",
        52_002,
        "CC-BY-NC-4.0",
        "non-commercial, and the answers come from a closed model whose terms limit what may be trained on them",
        FREER,
        FACTS,
    ),
    KnownDataset(
        "knkarthick/samsum",
        "dialogues with summaries",
        14_732,
        "CC-BY-NC-ND-4.0",
        "no derivatives: an open release of a changed copy is blocked; some copies name another licence",
        ("knkarthick/dialogsum",),
        FACTS,
    ),
    KnownDataset(
        "rajpurkar/squad_v2",
        "questions on Wikipedia paragraphs, a third of them without an answer",
        130_319,
        "CC-BY-SA-4.0",
        "",
        (),
        FACTS + ROWS,
    ),
    KnownDataset(
        "mteb/tweet_sentiment_extraction",
        "tweets with one of three sentiments",
        27_481,
        "unknown",
        "the copy states no licence; other copies label themselves Apache, which is not the author's word",
        (),
        FACTS + ROWS,
    ),
    KnownDataset(
        "ShareGPT",
        "conversations that users shared from a closed assistant",
        0,
        "unknown",
        "nobody who could license it did; the answers come from a closed model, and people wrote personal things",
        FREER,
        "no copy seen states a licence of its authors, 2026-11-20",
    ),
    KnownDataset(
        "OpenAssistant/oasst1", "conversations written by volunteers", 84_437, "Apache-2.0", "", (), CARD_READ
    ),
    KnownDataset(
        "databricks/databricks-dolly-15k",
        "instructions written by employees",
        15_011,
        "CC-BY-SA-3.0",
        "",
        (),
        FACTS + ROWS,
    ),
    KnownDataset(
        "knkarthick/dialogsum",
        "dialogues with summaries",
        12_460,
        "CC-BY-NC-SA-4.0",
        "non-commercial",
        (),
        SECOND_HAND,
    ),
    KnownDataset(
        "allenai/tulu-3-sft-mixture",
        "instructions of 18 public sets",
        939_343,
        "ODC-By-1.0",
        MIXTURE,
        FREER,
        CARD_READ,
        "source",
        (
            ("no_robots", "CC-BY-NC-4.0"),
            ("oasst1", "Apache-2.0"),
            ("coconot", "ODC-By-1.0"),
            ("personahub", "ODC-By-1.0"),
        ),
    ),
    KnownDataset(
        "allenai/tulu-v2-sft-mixture",
        "instructions of a dozen public sets",
        326_154,
        "ODC-By-1.0",
        MIXTURE,
        FREER,
        CARD_READ,
        "dataset",
        (
            ("flan", "Apache-2.0"),
            ("cot", "Apache-2.0"),
            ("oasst1", "Apache-2.0"),
            ("gpt4_alpaca", "CC-BY-NC-4.0"),
            ("code_alpaca", "CC-BY-NC-4.0"),
            ("lima", "CC-BY-NC-SA-4.0"),
            ("open_orca", "MIT"),
        ),
    ),
)
OTHER_NAMES = {"alpaca": "tatsu-lab/alpaca", "samsum": "knkarthick/samsum", "sharegpt": "ShareGPT"}
OTHER_NAMES |= {
    "samsung/samsum": "knkarthick/samsum",
    "squad_v2": "rajpurkar/squad_v2",
    "dolly": "databricks/databricks-dolly-15k",
}


def find_known(name: str) -> KnownDataset | None:
    """The data set of that id or short name (`hf:owner/name:config@revision` too), if it is a known one."""
    plain = re.split(r"[:@#]", name.removeprefix("hf:"))[0]
    key = OTHER_NAMES.get(plain.lower(), plain).lower()
    return next((known for known in KNOWN_DATASETS if known.id.lower() == key), None)


def subset_licence(known: KnownDataset, row: Mapping[str, Any]) -> str:
    """The licence of the subset that a row of a mixture names; "unknown" where that is not known."""
    name = str(row.get(known.subset_field, "")).lower()
    return next((licence for part, licence in known.subsets if part in name), UNKNOWN_LICENCE)
