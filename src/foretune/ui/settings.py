"""The settings of a run as a page shows them: the few that matter first, all others folded, each with its origin."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from foretune.config.write import toml_value
from foretune.data.tokenizer import Tokenizer
from foretune.records.run import ResolvedRecord
from foretune.ui.run_folder import RunFolder

__all__ = ["BASIC", "Setting", "SettingsView", "longest_row", "settings_view"]

BASIC = {
    "base": "Base model",
    "data.path": "Data",
    "train.method": "Method",
    "train.epochs": "Epochs",
    "train.learning_rate": "Learning rate",
    "train.global_batch_size": "Samples an update",
    "train.rank": "Rank of the adapter",
    "evaluate.primary_metric": "Metric that decides",
}  # what is shown without asking: at most 8 (R214)


@dataclass(frozen=True)
class Setting:
    """One setting: dotted name, title, value as in the job file, and where it comes from ("" = default)."""

    name: str
    title: str
    value: str
    origin: str


@dataclass(frozen=True)
class SettingsView:
    """The settings that matter, and all others."""

    basic: tuple[Setting, ...]
    advanced: tuple[Setting, ...]


def settings_view(resolved: ResolvedRecord) -> SettingsView:
    """Every setting of the job; among the others those that were set come first."""
    values = dict(_flat(resolved.job))
    shown = {name: _setting(name, value, resolved) for name, value in values.items() if name != "name"}
    rest = [setting for name, setting in shown.items() if name not in BASIC]
    return SettingsView(
        basic=tuple(shown[name] for name in BASIC if name in shown),
        advanced=tuple(sorted(rest, key=lambda setting: not setting.origin)),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting(name: str, value: Any, resolved: ResolvedRecord) -> Setting:
    origin = resolved.origins.get(name, "default")
    text = _derived(name, resolved) if value in (0, "", None, []) and value is not False else _plain(value)
    return Setting(name, BASIC.get(name, name), text, "" if origin == "default" else origin)


def _derived(name: str, resolved: ResolvedRecord) -> str:
    """What stands for a value that was left open: what followed from the others, where that is recorded."""
    if name == "evaluate.primary_metric" and resolved.primary_metric:
        return resolved.derived.get("primary_metric", resolved.primary_metric)
    text = resolved.derived.get(name) or resolved.derived.get(name.rpartition(".")[2], "")
    return text or ("by method" if name == "train.learning_rate" else "not set")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else toml_value(value)


def longest_row(run: RunFolder, tokenizer: Tokenizer | None) -> int:
    """Tokens after which training cuts a row: as planned, as set, or as the model allows; 0 where none is known.

    A plan that takes the longest row of the data as limit cuts nothing, so the job's or the model's limit is told.
    """
    train = run.resolved.job.get("train", {}) if run.resolved else {}
    wanted = int(train.get("max_seq_len") or 0)
    return wanted or (tokenizer.max_len or 0 if tokenizer else 0) or (run.plan.max_seq_len if run.plan else 0)
