"""Hosted models on the same samples: asked answer by answer, with what failed left open instead of scored 0."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from foretune.config.job import EvaluateConfig
from foretune.data.samples import Sample
from foretune.errors import ConfigError, ServeError
from foretune.evaluate.endpoint import Endpoint, Refused, open_endpoint
from foretune.evaluate.metrics import Scoring
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.systems import Once, Progress, System

__all__ = ["HOSTED", "Hosted", "HostedChoice", "choose_prompt", "hosted_answers", "hosted_models"]

HOSTED = "endpoint:"  # begins the name of such a system
MAX_FAILURES = 3  # in a row, each tried several times: then the endpoint counts as down
SPARE_ANSWER_TOKENS = 64  # another tokenizer may need more for the same words


class Hosted(NamedTuple):
    """An endpoint and the name of the system that it is."""

    name: str
    endpoint: Endpoint

    @property
    def step(self) -> str:
        """Begins the names of its answers in the journal: another address is another model."""
        return f"{HOSTED}{self.endpoint.url}#{self.endpoint.model}"


class HostedChoice(NamedTuple):
    """The prompt that served an endpoint best on validation, and a row for each that was tried."""

    prompt: str
    rows: list[dict[str, Any]]


def hosted_models(config: EvaluateConfig) -> list[Hosted]:
    """The job's endpoints. Raises ConfigError for a malformed one, or one that is named twice."""
    found: dict[str, Hosted] = {}
    for spec in config.endpoints:
        endpoint = open_endpoint(spec, config.advanced)
        name = f"{HOSTED}{endpoint.model}"
        name = name if name not in found else f"{name}@{endpoint.host}"
        if name in found:
            raise ConfigError(f"the endpoint {spec!r} is named twice", fix="take one out of evaluate.endpoints")
        found[name] = Hosted(name, endpoint)
    return list(found.values())


def hosted_answers(
    hosted: Hosted,
    prompt: Prompt,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    once: Once,
    on_progress: Progress | None = None,
    step: str = "",
) -> System:
    """Every sample's answer; each is kept as soon as it is there, so that nothing is paid for twice.

    What fails is not kept: the next evaluation asks again. After 3 failures in a row the rest is left open. `step`
    names the samples in the journal, where they are not those of the test split.
    """
    rows: list[Any] = []
    faults: dict[int, str] = {}
    in_a_row = 0
    for place, sample in enumerate(samples):
        row = None
        if in_a_row < MAX_FAILURES:
            try:
                asked = partial(_asked, hosted, prompt, sample, max_new_tokens)
                row = once(f"{step or hosted.step}/{prompt.name}/{place}", asked)
                in_a_row = 0
            except ServeError as error:
                faults[place] = error.what
                in_a_row += not isinstance(error, Refused)
        rows.append(row)
        if on_progress is not None:
            on_progress(hosted.name, place + 1, len(samples))
    return _system(hosted, prompt, rows, faults)


def _asked(hosted: Hosted, prompt: Prompt, sample: Sample, max_new_tokens: int) -> list[Any]:
    messages = prompt.messages(sample, prompt.shots(sample)[: prompt.num_shots])
    limit = 2 * max_new_tokens + SPARE_ANSWER_TOKENS
    reply = hosted.endpoint.reply([turn.to_json() for turn in messages], max_tokens=limit)
    return [reply.text, reply.answer_tokens, reply.seconds, reply.cost_usd]


def _system(hosted: Hosted, prompt: Prompt, rows: Sequence[Any], faults: dict[int, str]) -> System:
    missing = [place for place, row in enumerate(rows) if row is None]
    answers = [row or ["", 0, 0.0, None] for row in rows]
    why = next(iter(faults.values()), "")
    gap = f"{len(missing)} of {len(rows)} answers are missing: {why}" if missing else ""
    return System(
        hosted.name,
        f"{hosted.endpoint.model} at {hosted.endpoint.host}: {prompt.description}",
        prompt.num_shots,
        [answer[0] for answer in answers],
        sum(answer[2] for answer in answers),
        sum(answer[1] for answer in answers),
        [f"{hosted.name}: {gap}; they are not scored"] if gap else [],
        [answer[2] for answer in answers],
        [answer[3] for answer in answers] if hosted.endpoint.usd_per_million else (),
        missing,
        gap,
    )


def choose_prompt(
    hosted: Hosted,
    prompts: Sequence[Prompt],
    scoring: Scoring,
    validation: Sequence[Sample],
    *,
    max_new_tokens: int,
    once: Once,
    on_progress: Progress | None = None,
) -> HostedChoice:
    """The prompt with the best primary metric on the validation samples; ties and gaps go to the first.

    An endpoint that does not answer them all is not compared on what it answered: the first prompt stands.
    """
    rows: list[dict[str, Any]] = []
    for prompt in prompts if len(prompts) > 1 else ():
        system = hosted_answers(
            hosted,
            prompt,
            validation,
            max_new_tokens=max_new_tokens,
            once=once,
            on_progress=on_progress,
            step=f"{hosted.step}/validation",
        )
        if system.missing or not validation:
            break
        metric = scoring.score(system.predictions, [sample.target for sample in validation]).metrics[scoring.primary]
        rows.append(_row(hosted, prompt, system, scoring.primary, metric))
    if not rows or len(rows) < len(prompts):
        return HostedChoice(prompts[0].name, rows)
    best = max(range(len(rows)), key=lambda number: rows[number]["score"])
    rows[best]["chosen_as"] = hosted.name
    return HostedChoice(prompts[best].name, rows)


def _row(hosted: Hosted, prompt: Prompt, system: System, primary: str, metric: Any) -> dict[str, Any]:
    return {
        "name": f"{hosted.name}/{prompt.name}",
        "prompt": system.prompt,
        "num_shots": prompt.num_shots,
        "fewest_shots": prompt.num_shots,
        "most_shots": prompt.num_shots,
        "metric": primary,
        "score": metric.value,
        "ci_low": metric.ci_low,
        "ci_high": metric.ci_high,
        "n": metric.n,
        "seconds": round(system.seconds, 3),
        "chosen_as": "",
    }
