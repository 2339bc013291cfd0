"""What a data licence allows, and whether what was made from the data can go out under another licence."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from foretune.data.known import FREER, find_known
from foretune.errors import GateRefused
from foretune.records.dataset import UNKNOWN_LICENCE, SharePolicy

__all__ = [
    "AND",
    "Conflict",
    "LicenceTerms",
    "Use",
    "check_release",
    "licence_faults",
    "licence_id",
    "licence_terms",
    "release_conflicts",
]

Use = Literal["commercial", "research"]

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
AND = " AND "  # several licences at once, as SPDX writes it
OWN = ("own", "proprietary", "internal")  # what the user says of data of their own
FORBIDDEN = re.compile(r"(?i)\b(?:copyrighted|all rights reserved|no[- ]permission|not licen[cs]ed)\b|^(?:©|\(c\))")
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
    if AND in name:
        return AND.join(dict.fromkeys(licence_id(part) for part in name.split(AND)))
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
    if AND in name:
        return _joined(name, [licence_terms(part) for part in name.split(AND)])
    if name == UNKNOWN_LICENCE:
        warning = (
            "the licence is not known: find out before you publish the data or a model trained on it, "
            "and write it down beside the data, in source.json: "
            '{"licence": "own"}'
        )
        return LicenceTerms(name, None, None, False, True, warning)
    if name in OWN:
        return LicenceTerms(name, True, True, False, False)
    if FORBIDDEN.search(name):
        warning = (
            f"{name}: copyrighted without permission to reuse it: ask its owner, or take it out before you publish"
        )
        return LicenceTerms(name, False, False, False, True, warning)
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


def _joined(name: str, parts: list[LicenceTerms]) -> LicenceTerms:
    """Several licences at once: what one forbids is forbidden, what one leaves open is not known."""
    told = "; ".join(dict.fromkeys(part.warning for part in parts if part.warning))
    return LicenceTerms(
        name,
        _all([part.commercial for part in parts]),
        _all([part.derivatives for part in parts]),
        any(part.share_alike for part in parts),
        any(part.attribution for part in parts),
        told,
    )


def _all(answers: list[bool | None]) -> bool | None:
    return False if False in answers else None if None in answers else True


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


def licence_faults(licences: Iterable[str], use: Use) -> list[str]:
    """Why data under these licences cannot be trained on for this use; [] where nothing speaks against it.

    Unknown licences are refused, and non-commercial ones for commercial use. A reading aid, no legal advice.
    """
    faults = []
    for licence in sorted({licence_id(licence) for licence in licences}):
        terms = licence_terms(licence)
        if licence == UNKNOWN_LICENCE:
            faults.append("the licence of some rows is not known")
        elif terms.commercial is None:
            faults.append(f"{licence} is not a licence that foretune knows")
        elif FORBIDDEN.search(licence):
            faults.append(f"{licence}: copyrighted without permission")
        elif not terms.commercial and use == "commercial":
            faults.append(f"{licence} forbids commercial use")
    return faults


class Conflict(NamedTuple):
    """A source that keeps a release from going out under its licence, and freer sources for the same use."""

    source: str
    licence: str
    why: str
    instead: tuple[str, ...]


def release_conflicts(sources: Iterable[tuple[str, str]], release: str) -> list[Conflict]:
    """Which sources (name, licence) conflict with releasing what was made from them under the licence `release`.

    Of a known data set the stricter of the stated and the known licence counts. Share-alike is no conflict: it binds
    copies of the data, and for models that is disputed; `licence_terms` warns of it.
    """
    wanted = licence_terms(release)
    found = []
    for name, stated in sources:
        known = find_known(name)
        licences = {licence_id(stated), *([known.licence] if known is not None else [])}
        if known is not None and len(licences) > 1:
            licences.discard(UNKNOWN_LICENCE)
        for licence in sorted(licences):
            why = _against(licence_terms(licence), wanted)
            if why:
                found.append(Conflict(name, licence, why, known.instead if known and known.instead else FREER))
                break
    return found


def _against(terms: LicenceTerms, wanted: LicenceTerms) -> str:
    if FORBIDDEN.search(terms.licence):
        return "copyrighted, and nobody gave permission"
    if terms.commercial is None:
        return "nobody knows what its licence allows"
    if terms.derivatives is False:
        return "its licence forbids changed copies"
    if not terms.commercial and wanted.commercial is not False:
        return f"its licence forbids commercial use, which {wanted.licence} grants"
    return ""


def check_release(sources: Iterable[tuple[str, str]], release: str) -> None:
    """Raises GateRefused with every conflict and freer alternatives where a release under `release` cannot go out."""
    conflicts = release_conflicts(sources, release)
    if not conflicts:
        return
    told = "; ".join(f"{conflict.source} ({conflict.licence}): {conflict.why}" for conflict in conflicts)
    known = (find_known(name) for name in dict.fromkeys(name for conflict in conflicts for name in conflict.instead))
    freer = ", ".join(f"{one.id} ({one.licence})" for one in known if one is not None)
    raise GateRefused(
        f"what was made of this data cannot be released under {licence_id(release)}: {told}",
        fix=f"take these rows out and use freer data instead: {freer}",
    )
