"""The one door to Optuna: the next setting of a sweep, proposed by what came of those before.

A Gaussian process of the loss and its expected improvement (Ament et al. 2023, arXiv 2310.20708), which makes more of a
few settings than Optuna's usual sampler. Each proposal starts from the told settings and the seed alone, so a sweep
that was killed proposes what it would have proposed.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from foretune.config.sweep import LogRange, Values
from foretune.errors import MissingDependency

__all__ = ["Told", "check_optuna", "proposed"]

LEAST_RANDOM = 4  # settings drawn at random before the first is chosen
TRIES = 50  # for a setting that was not tried yet


class Told(NamedTuple):
    """A setting that was tried, and the validation loss (nats) that it came to at the first rung; None if it failed."""

    values: Mapping[str, Any]
    loss: float | None


def check_optuna() -> None:
    """Raise MissingDependency where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingDependency(
            "--sampler optuna needs Optuna, which is not installed", fix="pip install 'foretune[sweep]'"
        )


def _optuna() -> Any:
    check_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def proposed(space: Mapping[str, Values], told: Sequence[Told], *, seed: int, num_settings: int) -> dict[str, Any]:
    """The next setting to try out of `space`, unlike every one told. Raises MissingDependency."""
    optuna = _optuna()
    ranges = {field: _distribution(optuna, values) for field, values in space.items()}
    tried = [dict(one.values) for one in told]
    for attempt in range(TRIES):
        sampler = optuna.samplers.GPSampler(
            seed=_seed(seed, len(told), attempt), n_startup_trials=max(LEAST_RANDOM, num_settings // 4)
        )
        study = optuna.create_study(direction="minimize", sampler=sampler)
        study.add_trials(list(_trials(optuna, space, ranges, told)))
        given = study.ask(ranges).params
        values = {field: _value(space[field], given[field]) for field in space}
        if values not in tried:
            return values
    return _untried(space, tried, _seed(seed, len(told), TRIES))


def _seed(seed: int, number: int, attempt: int) -> int:
    return random.Random(f"{seed} {number} {attempt}").randrange(2**31)


def _distribution(optuna: Any, values: Values) -> Any:
    """Lists are chosen from by place, as Optuna takes no tuples as values."""
    if not isinstance(values, LogRange):
        return optuna.distributions.CategoricalDistribution(list(range(len(values))))
    kind = optuna.distributions.IntDistribution if values.is_whole else optuna.distributions.FloatDistribution
    return kind(values.low, values.high, log=True)


def _value(values: Values, given: Any) -> Any:
    return values.rounded(given) if isinstance(values, LogRange) else values[given]


def _trials(optuna: Any, space: Mapping[str, Values], ranges: Mapping[str, Any], told: Sequence[Told]) -> Iterable[Any]:
    for one in told:
        params = {field: _param(space[field], one.values[field]) for field in space}
        state = optuna.trial.TrialState.FAIL if one.loss is None else optuna.trial.TrialState.COMPLETE
        yield optuna.trial.create_trial(state=state, params=params, distributions=dict(ranges), value=one.loss)


def _param(values: Values, value: Any) -> Any:
    if isinstance(values, LogRange):
        return value
    plain = [list(one) if isinstance(one, tuple) else one for one in values]  # records hold lists
    return plain.index(list(value) if isinstance(value, tuple) else value)


def _untried(space: Mapping[str, Values], tried: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """A random setting that was not tried; there is one, as the space is larger than the sweep."""
    source = random.Random(seed)
    while True:
        one = {
            name: values.drawn(source) if isinstance(values, LogRange) else source.choice(values)
            for name, values in space.items()
        }
        if one not in tried:
            return one
