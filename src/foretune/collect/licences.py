"""What a data licence allows, and the licences of data sets that everybody starts from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import NamedTuple

from foretune.records.dataset import UNKNOWN_LICENCE, SharePolicy

__all__ = ["KNOWN_DATASETS", "KnownDataset", "LicenceTerms", "find_known", "licence_id", "licence_terms"]

FREE = ("CC0-1.0", "PDDL-1.0", "MIT", "Apache-2.0", "Unlicense", "BSD-2-Clause", "BSD-3-Clause", "ISC")
ATTRIBUTION = ("CC-BY", "ODC-By", "CDLA-Permissive")
SHARE_ALIKE = ("CC-BY-SA", "ODbL", "GFDL", "CDLA-Sharing")
SPELLINGS = {
    "apache2.0": "Apache-2.0",
    "cc0": "CC0-1.0",
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "pddl": "PDDL-1.0",
    "public domain": "CC0-1.0",
}
OWN = ("own", "proprietary", "internal")  # what the user says of data of their own
NO_LICENCE = ("", "unknown", "other", "none", "noassertion", "not stated", "n/a")


class LicenceTerms(NamedTuple):
    """What a licence allows; None = not known. `warning` is one sentence for the user, "" where nothing is to be said.

    This is a reading aid, not legal advice.
    """

    licence: str
    commercial: bool | None
    derivatives: bool | None
    share_alike: bool
    attribution: bool
    warning: str = ""

    @property
    def share(self) -> SharePolicy:
        """Who may see copies of the data by default: anyone where copies are allowed, else the team."""
        return "public" if self.derivatives and self.licence not in OWN else "internal"

    @property
    def allows_open_release(self) -> bool:
        """Whether a model trained on it can go out under an open licence without further thought."""
        return self.commercial is True and self.derivatives is True


def licence_id(text: str | None) -> str:
    """The licence by its SPDX name: `cc-by-nc-4.0` becomes `CC-BY-NC-4.0`; "unknown" for what says nothing."""
    name = (text or "").strip()
    if name.lower() in NO_LICENCE:
        return UNKNOWN_LICENCE
    if name.lower() in SPELLINGS:
        return SPELLINGS[name.lower()]
    if re.match(r"(?i)cc[- ]by", name):
        return re.sub(r"[ _]+", "-", name).upper()
    known = {free.lower(): free for free in (*FREE, *OWN)}
    known |= {f"{kind.lower()}-1.0": f"{kind}-1.0" for kind in ("ODC-By", "ODbL", "CDLA-Permissive", "CDLA-Sharing")}
    return known.get(name.lower(), name)


def licence_terms(text: str | None) -> LicenceTerms:
    """What a licence allows, told from its name."""
    name = licence_id(text)
    if name == UNKNOWN_LICENCE:
        warning = (
            "the licence is not known: find out before you publish the data or a model trained on it, "
            "and write it down beside the data, in source.json: "
            '{"licence": "own"}'
        )
        return LicenceTerms(name, None, None, False, True, warning)
    if name in OWN:
        return LicenceTerms(name, True, True, False, False)
    if name.startswith("CC-BY"):
        return _creative_commons(name)
    if name in FREE:
        return LicenceTerms(name, True, True, False, name not in ("CC0-1.0", "PDDL-1.0", "Unlicense"))
    if name.startswith(SHARE_ALIKE):
        warning = f"{name} is share-alike: changed copies of the data go out under it too"
        return LicenceTerms(name, True, True, True, True, warning)
    if name.startswith(ATTRIBUTION):
        return LicenceTerms(name, True, True, False, True)
    return LicenceTerms(
        name, None, None, False, True, f"{name} is not a licence foretune knows: read it before you publish"
    )


def _creative_commons(name: str) -> LicenceTerms:
    parts = name.split("-")
    commercial, derivatives, alike = "NC" not in parts, "ND" not in parts, "SA" in parts
    reasons = [
        "" if commercial else "non-commercial: no product may be built on it",
        ""
        if derivatives
        else "no derivatives: a changed copy of the data may not be published, an open release is blocked",
        "share-alike: changed copies of the data go out under it too" if alike else "",
    ]
    told = "; ".join(reason for reason in reasons if reason)
    return LicenceTerms(name, commercial, derivatives, alike, True, f"{name} is {told}" if told else "")


class KnownDataset(NamedTuple):
    """A public data set that many start from; facts are dated by `source`."""

    id: str
    what: str
    num_rows: int  # of train; 0 = not known
    licence: str
    warning: str
    instead: tuple[str, ...]  # ids of freer sets for the same use
    source: str


FACTS = "data set card, read 2026-11-20"
ROWS = "; number of rows from memory"
CARD_READ = "data set card, read 2026-11-21"
SECOND_HAND = "licence from the authors' repository, read 2026-11-20; number of rows from memory"

KNOWN_DATASETS: tuple[KnownDataset, ...] = (
    KnownDataset(
        "tatsu-lab/alpaca",
        "52k instructions with answers by text-davinci-003",
        52_002,
        "CC-BY-NC-4.0",
        "non-commercial, and the answers come from a closed model whose terms limit what may be trained on them",
        ("OpenAssistant/oasst1", "databricks/databricks-dolly-15k"),
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
        ("OpenAssistant/oasst1", "databricks/databricks-dolly-15k"),
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
)
OTHER_NAMES = {"alpaca": "tatsu-lab/alpaca", "samsum": "knkarthick/samsum", "sharegpt": "ShareGPT"}
OTHER_NAMES |= {
    "samsung/samsum": "knkarthick/samsum",
    "squad_v2": "rajpurkar/squad_v2",
    "dolly": "databricks/databricks-dolly-15k",
}


def find_known(name: str) -> KnownDataset | None:
    """The data set of that id or short name, if it is a known one."""
    key = OTHER_NAMES.get(name.lower(), name).lower()
    return next((known for known in KNOWN_DATASETS if known.id.lower() == key), None)
