"""Scorers of other packages: entry points of the group `foretune.scorers`."""

# SPDX-License-Identifier: Apache-2.0
#
# In the other package's pyproject.toml:
#   [project.entry-points."foretune.scorers"]
#   politeness = "their_package.scoring:politeness"
# The object is a function (prediction, target) -> float, or a ScorerSpec that says more.
from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from foretune.errors import ScoreError
from foretune.evaluate.scorers.custom import check_arguments
from foretune.evaluate.scorers.spec import ScorerSpec

__all__ = ["GROUP", "plugin_names", "plugin_scorer"]

GROUP = "foretune.scorers"


def plugin_names() -> tuple[str, ...]:
    """Names of the scorers that installed packages offer."""
    return tuple(sorted(entry_points(group=GROUP).names))


def plugin_scorer(name: str) -> ScorerSpec | None:
    """The scorer that an installed package offers under `name`; None where none does.

    Raises ScoreError where two packages do, or it cannot be loaded or called as a scorer.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len({entry.value for entry in found}) > 1:
        packages = ", ".join(sorted(_package(entry) for entry in found))
        raise ScoreError(f"the scorer {name!r} is offered by {packages}", fix="uninstall all but one")
    try:
        loaded = found[0].load()
    except (ImportError, AttributeError, SyntaxError) as error:
        what = f"the scorer {name!r} of {_package(found[0])} cannot be loaded: {error}"
        raise ScoreError(what, fix="reinstall that package") from error
    if isinstance(loaded, ScorerSpec):
        return replace(loaded, name=name)
    if not callable(loaded):
        raise ScoreError(f"the scorer {name!r} is a {type(loaded).__name__}, expected a function or a ScorerSpec")
    check_arguments(loaded, name)
    summary = (inspect.getdoc(loaded) or f"scorer of {_package(found[0])}").splitlines()[0]
    return ScorerSpec(name, loaded, "graded", summary, score_range=None, is_foreign=True)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value
