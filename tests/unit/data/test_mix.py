"""Mixing: the right share of general rows, and none whose licence forbids it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.data.licences import licence_faults
from foretune.data.mix import mixed
from foretune.data.provenance import with_provenance
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, DataError, GateRefused
from foretune.records.dataset import Provenance


def row(number: int, licence: str = "") -> Sample:
    sample = Sample(f"r{number}", (Message("user", f"question {number}"), Message("assistant", "yes")))
    source = Provenance(source="general", licence=licence, retrieved_at="2026-01-01T00:00:00Z", sha256="0")
    return with_provenance(sample, source) if licence else sample


OWN = [row(n) for n in range(90)]
FREE = [row(1000 + n, "CC-BY-4.0") for n in range(50)]


def test_general_rows_are_the_share_asked_for_of_the_whole() -> None:
    mix = mixed(OWN, FREE, fraction=0.1)
    assert (mix.num_general, len(mix.samples), mix.fraction) == (10, 100, 0.1)
    assert mix.samples[:90] == OWN
    assert mix.licences == {"CC-BY-4.0": 10}
    assert all(s.meta["mixed"] == {"source": "general"} for s in mix.samples[90:])
    assert mixed(OWN, FREE[::-1], fraction=0.1) == mix
    assert "outside the usual" in mixed(OWN, FREE, fraction=0.3).warnings[0]


def test_rows_that_are_there_already_are_not_added() -> None:
    with pytest.raises(DataError, match="there are 0 that are new"):
        mixed(OWN, OWN, fraction=0.2)
    with pytest.raises(ConfigError, match="fraction is 1"):
        mixed(OWN, FREE, fraction=1)


def test_a_licence_that_forbids_it_stops_the_mix_unless_accepted() -> None:
    closed = [row(1000 + n, "CC-BY-NC-4.0") for n in range(50)]
    with pytest.raises(GateRefused, match="forbids commercial use"):
        mixed(OWN, closed)
    assert mixed(OWN, closed, use="research").num_general == 16
    assert "accepted:" in mixed(OWN, closed, accept_licences=True).warnings[0]
    with pytest.raises(GateRefused, match="not known") as caught:
        mixed(OWN, [row(1000 + n) for n in range(50)])
    assert "source.json" in caught.value.fix and "foretune data mix OWN" in caught.value.fix


@pytest.mark.parametrize("licence", ["MIT", "apache-2.0", "CC0-1.0", "cc by 4.0", "ODC-By-1.0", "CC-BY-SA-4.0"])
def test_free_licences_pass(licence: str) -> None:
    assert licence_faults([licence], "commercial") == []


def test_strange_licences_are_named() -> None:
    assert licence_faults(["my own", ""], "research") == [
        "my own is not a licence that foretune knows",
        "the licence of some rows is not known",
    ]
