"""The strongest prompts of the base model, chosen on validation samples alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from foretune.data.samples import Sample
from foretune.engine.chat import ChatEngine
from foretune.evaluate.metrics import Scoring
from foretune.evaluate.prompts import (
    Asked,
    Examples,
    Library,
    Prompt,
    ask,
    few_shot_prompts,
    retrieval_prompts,
    zero_shot_prompts,
)
from foretune.evaluate.scorers.table import ScoreTable
from foretune.evaluate.systems import (
    BASE_FEW_SHOT,
    BASE_RETRIEVAL,
    BASE_ZERO_SHOT,
    CONSTANT,
    Progress,
    System,
    answers_to,
    constant_answer,
    constant_system,
    shot_range,
)

__all__ = ["Choice", "Search", "search_prompts"]


@dataclass(frozen=True)
class Search:
    """What prompts are made of (training samples alone) and tried on (validation samples alone)."""

    scoring: Scoring
    train: Sequence[Sample]
    validation: Sequence[Sample]
    few_shot: Sequence[int] = (5, 8)
    instructions: Sequence[str] = ()
    seed: int = 0
    library: Library | None = None
    proposed: Sequence[Prompt] = ()  # by the optimiser, tried like all others

    @cached_property
    def zero_shot_prompts(self) -> list[Prompt]:
        """Candidates without examples, the plain one first."""
        usual = zero_shot_prompts(self.instructions, self.scoring.labels or ())
        return [*usual, *(prompt for prompt in self.proposed if not prompt.num_shots)]

    def few_shot_prompts(self, zero_shot: Prompt) -> list[Prompt]:
        """Candidates with examples, once the best prompt without is known."""
        usual = few_shot_prompts(self.few_shot, self.examples, self.seed, zero_shot)
        return [*usual, *(prompt for prompt in self.proposed if prompt.num_shots)]

    def retrieval_prompts(self, zero_shot: Prompt) -> list[Prompt]:
        """Candidates with passages of the job's documents, once the best prompt without is known."""
        return [] if self.library is None else retrieval_prompts(self.library, zero_shot)

    @cached_property
    def examples(self) -> Examples:
        """Training samples that can stand before a question."""
        return Examples(self.train, self.seed)

    def chosen(self, choice: Choice) -> dict[str, Prompt]:
        """The prompts behind the names of a choice, by system."""
        zero_shot = next(prompt for prompt in self.zero_shot_prompts if prompt.name == choice.zero_shot)
        systems = {BASE_ZERO_SHOT: zero_shot}
        for prompt in self.few_shot_prompts(zero_shot):
            if prompt.name == choice.few_shot:
                systems[BASE_FEW_SHOT] = prompt
        for prompt in self.retrieval_prompts(zero_shot):
            if prompt.name == choice.retrieval:
                systems[BASE_RETRIEVAL] = prompt
        return systems


class Choice(NamedTuple):
    """The names of the chosen prompts, which system is the baseline, and every candidate with its score.

    `few_shot` is "" where no example fits, `retrieval` where there are no documents.
    Plain values, so that they go into the journal.
    """

    zero_shot: str
    few_shot: str
    baseline: str
    candidates: list[dict[str, Any]]
    warnings: list[str]
    retrieval: str = ""


class _Trial(NamedTuple):
    """A candidate with what was asked, its scores (the primary metric first, the others for ties) and its row."""

    prompt: Prompt
    asked: list[Asked]
    scores: tuple[float, ...]
    row: dict[str, Any]


def search_prompts(
    search: Search, chat: ChatEngine, *, max_new_tokens: int, batch_size: int, on_progress: Progress | None = None
) -> Choice:
    """Try every candidate on the validation samples and choose.

    The baseline is the best of: the best prompt without examples, the best with, the one answer that is most frequent
    in training. On a tie a prompt goes before the answer, and the one with examples first.
    """
    if not search.validation:
        return _untried(search)

    def tried(prompts: Iterable[Prompt], known: Sequence[_Trial]) -> list[_Trial]:
        trials: list[_Trial] = []
        for prompt in prompts:
            asked = ask(prompt, search.validation, chat, max_new_tokens)
            is_new = all(asked != trial.asked for trial in (*known, *trials))
            if not is_new or (prompt.num_shots and shot_range(asked)[1] == 0):
                continue
            system = answers_to(
                asked,
                chat,
                name=prompt.name,
                description=prompt.description,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                on_progress=on_progress,
            )
            trials.append(_trial(prompt, asked, system, search))
        return trials

    plain = tried(search.zero_shot_prompts, ())
    zero_shot = max(plain, key=lambda trial: trial.scores)
    shown = tried(search.few_shot_prompts(zero_shot.prompt), plain)
    few_shot = max(shown, key=lambda trial: trial.scores, default=None)
    is_few = few_shot is not None and few_shot.scores[0] >= zero_shot.scores[0]
    prompted = few_shot if few_shot is not None and is_few else zero_shot
    looked_up = tried(search.retrieval_prompts(zero_shot.prompt), (*plain, *shown))
    retrieval = max(looked_up, key=lambda trial: trial.scores, default=None)
    baseline = BASE_FEW_SHOT if is_few else BASE_ZERO_SHOT
    if retrieval is not None and retrieval.scores[0] > prompted.scores[0]:
        prompted, baseline = retrieval, BASE_RETRIEVAL
    constant = _constant_trial(search)
    is_constant = constant is not None and constant.scores[0] > prompted.scores[0]
    chosen = {BASE_ZERO_SHOT: zero_shot, BASE_FEW_SHOT: few_shot, BASE_RETRIEVAL: retrieval}
    rows = [_marked(trial, chosen) for trial in (*plain, *shown, *looked_up)]
    return Choice(
        zero_shot.prompt.name,
        few_shot.prompt.name if few_shot else "",
        CONSTANT if is_constant else baseline,
        [*rows, {**constant.row, "chosen_as": CONSTANT}] if constant else rows,
        [] if few_shot else ["no example of the training split fits into a prompt: the base is asked without examples"],
        retrieval.prompt.name if retrieval else "",
    )


def _untried(search: Search) -> Choice:
    """The choice where there is nothing to choose on: the plain prompt, and the first with examples as baseline."""
    plain = search.zero_shot_prompts[0]
    few = search.few_shot_prompts(plain)[:1]
    found = search.retrieval_prompts(plain)[:1]
    warning = "there are no validation samples: the base model's prompt is not the best of several but the first"
    name = few[0].name if few else ""
    return Choice(plain.name, name, BASE_FEW_SHOT if few else BASE_ZERO_SHOT, [], [warning], *(p.name for p in found))


def _constant_trial(search: Search) -> _Trial | None:
    """The constant answer on the validation samples; None where no answer is frequent."""
    answer = constant_answer(search.train)
    if answer is None:
        return None
    system = constant_system(answer, len(search.validation))
    return _trial(Prompt(CONSTANT, system.prompt), [], system, search)


def _trial(prompt: Prompt, asked: list[Asked], system: System, search: Search) -> _Trial:
    table = search.scoring.score(system.predictions, [sample.target for sample in search.validation])
    primary = search.scoring.primary
    metric = table.metrics[primary]
    fewest, most = shot_range(asked)
    row = {
        "name": prompt.name,
        "prompt": prompt.description,
        "num_shots": system.num_shots,
        "fewest_shots": fewest,
        "most_shots": most,
        "metric": primary,
        "score": metric.value,
        "ci_low": metric.ci_low,
        "ci_high": metric.ci_high,
        "n": metric.n,
        "seconds": round(system.seconds, 3),
    }
    return _Trial(prompt, asked, _ranked(table, primary), row)


def _ranked(table: ScoreTable, primary: str) -> tuple[float, ...]:
    others = [name for name, spec in table.specs.items() if name != primary and spec.higher_is_better]
    found = (table.metrics.get(name) for name in (primary, *others))
    return tuple(-1.0 if metric is None else metric.value for metric in found)


def _marked(trial: _Trial, chosen: Mapping[str, _Trial | None]) -> dict[str, Any]:
    system = next((name for name, one in chosen.items() if one is trial), "")
    return {**trial.row, "chosen_as": system}
