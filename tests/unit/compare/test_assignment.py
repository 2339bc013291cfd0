"""Assignment: the configured share, the same answer for ever, beta users, and a ramp that moves as few as possible."""

# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

import pytest

from foretune.compare.assignment import assigned_variant, hash_fraction, variant_of
from foretune.errors import ConfigError
from foretune.records.comparison import Allocation, Experiment, OutcomeSpec

START = datetime(2026, 6, 1, tzinfo=UTC)
USERS = [f"user-{number}" for number in range(10_000)]


@pytest.mark.req("R308")
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_the_share_holds_on_ten_thousand_ids(share):
    shares = {"tuned": share, "base": 1 - share}
    drawn = [variant_of(user, shares, "salt") for user in USERS]
    assert drawn.count("tuned") / len(USERS) == pytest.approx(share, abs=0.01)
    assert drawn == [variant_of(user, shares, "salt") for user in USERS]


def test_the_hash_is_pinned_and_salted():
    assert hash_fraction("salt", "user-1") == pytest.approx(0.204310167, abs=1e-9)  # sha256sum of the same bytes
    both = sum(hash_fraction("a", user) < 0.5 and hash_fraction("b", user) < 0.5 for user in USERS)
    assert both / len(USERS) == pytest.approx(0.25, abs=0.02)


def test_a_growing_share_keeps_those_who_have_it():
    shares = [{"base": 0.9, "tuned": 0.1}, {"base": 0.5, "tuned": 0.5}]
    experiment = Experiment(
        name="ramp",
        baseline="base",
        allocations=tuple(Allocation(start=START + timedelta(days=7 * i), shares=s) for i, s in enumerate(shares)),
        primary=OutcomeSpec(name="task_completion"),
    )
    early = {user for user in USERS if assigned_variant(experiment, user, START) == "tuned"}
    late = {user for user in USERS if assigned_variant(experiment, user, START + timedelta(days=8)) == "tuned"}
    assert early < late
    assert {assigned_variant(experiment, user, START - timedelta(days=1)) for user in USERS[:50]} == {"base"}


@pytest.mark.req("R315")
def test_beta_users_get_what_the_list_says():
    shares = {"tuned": 0.0, "base": 1.0}
    assert variant_of("ann", shares, allow_list={"ann": "tuned"}) == "tuned"
    assert variant_of("bob", shares, allow_list={"ann": "tuned"}) == "base"


def test_what_cannot_be_drawn():
    with pytest.raises(ConfigError, match="user is empty"):
        variant_of("", {"base": 1.0})
    with pytest.raises(ConfigError, match="add up to 1"):
        variant_of("ann", {"base": 0.5, "tuned": 0.4})
