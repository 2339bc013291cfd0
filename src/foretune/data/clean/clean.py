"""Run a recipe on a stored version: a new version with its parents, every step logged; the old one stays."""

# SPDX-License-Identifier: Apache-2.0
#
# <runs_dir>/.datasets/<version>/lineage.json lists every way that this version was made: parents, recipe, counts, ids.
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from foretune.data.augment import USUAL_KINDS, augmented
from foretune.data.clean import steps
from foretune.data.clean.recipe import Recipe, Step
from foretune.data.clean.steps import Outcome, Samples
from foretune.data.mix import DEFAULT_FRACTION, mixed
from foretune.data.split import SPLITS, Splits
from foretune.data.store import DatasetStore
from foretune.data.subset import best_rated, random_subset, stratified, value_at
from foretune.errors import ConfigError, DataError
from foretune.records.base import Record

__all__ = ["STEPS", "CleanRecord", "Lineage", "StepLog", "clean", "lineage_of", "recipe_outcome"]

ALL, TRAIN = SPLITS, ("train",)


class StepKind(NamedTuple):
    """A step by its function, and the splits it works on where the recipe names none."""

    run: Callable[..., Outcome]
    splits: tuple[str, ...]


class StepLog(BaseModel):
    """What one step did to one split; ids of all rows that it dropped, changed or added."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: str
    params: dict[str, Any]
    why: str
    split: str
    num_before: int
    num_after: int
    dropped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


class CleanRecord(Record):
    """One run of a recipe: from which versions (the one cleaned first) to which, with the log of every step."""

    file_name: ClassVar[str] = "clean.json"
    version: str
    parents: tuple[str, ...]
    recipe: Recipe
    recipe_hash: str
    log: tuple[StepLog, ...]

    @property
    def summary(self) -> str:
        """One line a step and split: what it did to how many rows."""
        return "\n".join(
            f"{entry.do} ({entry.split}): {entry.num_before:,} -> {entry.num_after:,} rows, "
            f"{len(entry.dropped)} dropped, {len(entry.changed)} changed, {len(entry.added)} added"
            for entry in self.log
        )


class Lineage(Record):
    """Every known way that a version was made from others."""

    file_name: ClassVar[str] = "lineage.json"
    version: str
    made_by: tuple[CleanRecord, ...] = ()


def _augment(samples: Samples, *, kinds: list[str] | None = None, share: float = 0.2, seed: int = 0) -> Outcome:
    """Add rephrased, mistyped or reformatted rows."""
    added = augmented(samples, kinds=kinds or USUAL_KINDS, share=share, seed=seed)
    return Outcome([*samples, *added], added=tuple(sample.id for sample in added))


def _subset(samples: Samples, *, count: int, by: str = "random", field: str = "rating", seed: int = 0) -> Outcome:
    """Keep `count` rows: random, class, slice (shares of `field` kept) or quality (the highest `field`)."""
    ways: dict[str, Callable[[], Samples]] = {
        "random": lambda: random_subset(samples, count, seed=seed),
        "class": lambda: stratified(samples, count, seed=seed),
        "slice": lambda: stratified(samples, count, key=lambda s: str(value_at(s, field)), seed=seed),
        "quality": lambda: best_rated(samples, count, rating=field, seed=seed),
    }
    if by not in ways:
        raise ConfigError(f"by is {by!r}, expected {', '.join(ways)}", fix='by = "random"')
    kept = ways[by]()
    ids = {id(sample) for sample in kept}
    return Outcome(kept, tuple(sample.id for sample in samples if id(sample) not in ids))


def _mix(
    samples: Samples,
    *,
    version: str,
    fraction: float = DEFAULT_FRACTION,
    use: str = "commercial",
    accept_licences: bool = False,
    store: DatasetStore,
    seed: int = 0,
) -> Outcome:
    """Add general rows: the training split of another stored version."""
    if use not in ("commercial", "research"):
        raise ConfigError(f"use is {use!r}, expected commercial or research", fix='use = "commercial"')
    chosen = "commercial" if use == "commercial" else "research"
    general = store.load(version, "train")
    mix = mixed(samples, general, fraction=fraction, use=chosen, accept_licences=accept_licences, seed=seed)  # type: ignore[arg-type]
    return Outcome(mix.samples, added=tuple(sample.id for sample in mix.samples[len(samples) :]))


STEPS: dict[str, StepKind] = {
    "augment": StepKind(_augment, TRAIN),
    "clean_articles": StepKind(steps.clean_articles, ALL),
    "drop_bottom": StepKind(steps.drop_bottom, TRAIN),
    "drop_equal": StepKind(steps.drop_equal, TRAIN),
    "drop_ids": StepKind(steps.drop_ids, TRAIN),
    "drop_length": StepKind(steps.drop_length, TRAIN),
    "drop_matching": StepKind(steps.drop_matching, TRAIN),
    "drop_near": StepKind(steps.drop_near, TRAIN),
    "drop_stylish": StepKind(steps.drop_stylish, TRAIN),
    "keep_rated": StepKind(steps.keep_rated, TRAIN),
    "mix": StepKind(_mix, TRAIN),
    "normalise": StepKind(steps.normalise, ALL),
    "rename_keys": StepKind(steps.rename_keys, ALL),
    "set_targets": StepKind(steps.set_targets, ALL),
    "strip_html": StepKind(steps.strip_html, ALL),
    "subset": StepKind(_subset, TRAIN),
}
GIVEN = ("samples", "seed", "store")  # parameters that the runner fills in


def clean(store: DatasetStore, version: str, recipe: Recipe, *, run_dir: Path | None = None) -> CleanRecord:
    """Run a recipe on a version; the result is a version of its own, and the old one is untouched.

    The record goes into the new version's `lineage.json`, and as `clean.json` into `run_dir` if one is given. The same
    recipe on the same version gives the same version. Raises ConfigError, NotFound, and DataError where a step cannot
    run or leaves no training row.
    """
    splits = {name: store.load(version, name) for name in SPLITS}
    cleaned, log = recipe_outcome(splits, recipe, store=store)
    if not cleaned["train"]:
        raise DataError("the recipe leaves no training row", fix="foretune data diff; then soften the steps")
    new = store.save(Splits(cleaned["train"], cleaned["validation"], cleaned["test"], seed=recipe.seed))
    others = (str(step.params["version"]) for step in recipe.steps if step.do == "mix" and "version" in step.params)
    parents = tuple(dict.fromkeys((version, *others)))
    record = CleanRecord(version=new, parents=parents, recipe=recipe, recipe_hash=recipe.hash, log=tuple(log))
    if new != version:
        made = [entry for entry in lineage_of(store, new).made_by if entry != record]
        Lineage(version=new, made_by=(*made, record)).write(store.folder(new))
    if run_dir is not None:
        record.write(run_dir)
    return record


def lineage_of(store: DatasetStore, version: str) -> Lineage:
    """How a version was made from others; nothing is known of one that was read from files."""
    folder = store.folder(version)
    return Lineage.read(folder) if Lineage.exists(folder) else Lineage(version=version)


def recipe_outcome(
    splits: Mapping[str, Samples], recipe: Recipe, *, store: DatasetStore
) -> tuple[dict[str, Samples], list[StepLog]]:
    """The splits after every step, and the log; nothing is written. All steps are checked before the first runs."""
    for step in recipe.steps:
        _check(step)
    now = {name: list(samples) for name, samples in splits.items()}
    log = []
    for step in recipe.steps:
        for split in step.splits or STEPS[step.do].splits:
            before = len(now[split])
            outcome = _run(step, now[split], recipe.seed, store)
            now[split] = outcome.samples
            log.append(_logged(step, split, before, outcome))
    return now, log


def _logged(step: Step, split: str, num_before: int, outcome: Outcome) -> StepLog:
    return StepLog(
        do=step.do,
        params=step.params,
        why=step.why,
        split=split,
        num_before=num_before,
        num_after=len(outcome.samples),
        dropped=outcome.dropped,
        changed=outcome.changed,
        added=outcome.added,
    )


def _run(step: Step, samples: Samples, seed: int, store: DatasetStore) -> Outcome:
    run = STEPS[step.do].run
    known = inspect.signature(run).parameters
    filled = {name: value for name, value in (("seed", seed), ("store", store)) if name in known}
    return run(samples, **{**filled, **step.params})


def _check(step: Step) -> None:
    if step.do not in STEPS:
        raise ConfigError(f"no step {step.do!r}, expected one of {', '.join(STEPS)}", fix="foretune data clean --help")
    known = inspect.signature(STEPS[step.do].run).parameters
    names = [name for name in known if name not in GIVEN or name == "seed"]
    for given in step.params:
        if given not in names:
            raise ConfigError(
                f"step {step.do} has no parameter {given!r}", fix=f"its own: {', '.join(names) or 'none'}"
            )
    missing = [n for n in names if known[n].default is inspect.Parameter.empty and n not in step.params]
    if missing:
        raise ConfigError(f"step {step.do} lacks {missing[0]!r}", fix=f"add {missing[0]} = ... to the step")
    bad = [split for split in step.splits if split not in SPLITS]
    if bad:
        raise ConfigError(f"step {step.do} names the split {bad[0]!r}", fix=f"splits: {', '.join(SPLITS)}")
