"""Which variant a user gets: the same one every time, by the hash of salt and user, in the configured shares."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from foretune.errors import ConfigError
from foretune.records.comparison import Experiment

__all__ = ["allocation_at", "assigned_variant", "hash_fraction", "variant_of"]


def hash_fraction(salt: str, user: str) -> float:
    """Where a user lies in [0, 1): the first 8 bytes of SHA-256 of salt, a zero byte and the user."""
    digest = hashlib.sha256(f"{salt}\0{user}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def variant_of(
    user: str, shares: Mapping[str, float], salt: str = "", allow_list: Mapping[str, str] | None = None
) -> str:
    """The variant of a user, where shares (fractions that add up to 1) lie on [0, 1) in the order given.

    A user on the allow list gets what it says. When only the first shares shrink or grow, as in a ramp of two
    variants, nobody changes but those at the boundary.
    """
    if not user:
        raise ConfigError("the user is empty, expected an id to draw by", fix="send the user field with each request")
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ConfigError(
            f"shares are {dict(shares)}, expected to add up to 1", fix="shares = {base = 0.5, tuned = 0.5}"
        )
    if allow_list and user in allow_list:
        return allow_list[user]
    at, edge, last = hash_fraction(salt, user), 0.0, ""
    for name, share in shares.items():
        edge += share
        last = name if share > 0 else last
        if at < edge:
            return name
    return last


def allocation_at(experiment: Experiment, time: datetime) -> Mapping[str, float] | None:
    """The shares in force at a time; None before the experiment starts."""
    current = None
    for allocation in experiment.allocations:
        if allocation.start <= time:
            current = allocation.shares
    return current


def assigned_variant(experiment: Experiment, user: str, time: datetime) -> str:
    """The variant that a user is served at a time; the baseline before the experiment starts."""
    shares = allocation_at(experiment, time)
    if shares is None:
        return experiment.allow_list.get(user, experiment.baseline)
    ordered = {name: shares[name] for name in reversed(experiment.variants)}
    return variant_of(user, ordered, experiment.salt or experiment.name, experiment.allow_list)
