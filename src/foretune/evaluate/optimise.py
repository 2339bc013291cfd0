"""Prompts proposed for the base model: instructions by rule and by a model, examples by draw, halved on validation."""

# SPDX-License-Identifier: Apache-2.0
#
# The budget is answers: every candidate answers the first few validation samples, the better half twice as many, and
# so on: each round costs the same. Nothing here ever sees a test sample. The survivors are tried on all validation
# samples beside the usual prompts and have to beat them there.
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

from foretune.data.samples import Message, Sample
from foretune.engine.chat import ChatEngine
from foretune.errors import ServeError
from foretune.evaluate.endpoint import Endpoint
from foretune.evaluate.prompts import Examples, Prompt
from foretune.evaluate.selection import Search
from foretune.evaluate.systems import Once, Progress, answers_of

__all__ = ["Proposal", "optimised_prompts", "propose"]

FEWEST_ROWS = 8  # validation samples of the first round
MOST_SURVIVORS = 2
SHOWN_EXAMPLES = 5
REWRITE_TOKENS = 120
REWRITES = (
    "Write one instruction of at most two sentences that makes an assistant answer new inputs exactly as below.",
    "State the rule by which these answers follow from these inputs, as an instruction of at most two sentences.",
    "Say in one sentence what form an answer must have, and in one what it must contain.",
)
TEMPLATES = (
    "Give only the final answer, with nothing before or after it.",
    "Read the input carefully. {form}",
    "{form} Do not explain.",
    "First decide what is asked, then answer. {form} Write nothing else.",
    "You are an expert at this task. {form}",
)


class Proposal(NamedTuple):
    """A candidate in plain values: what is told, and the places of its examples among the training samples."""

    name: str
    told: str
    places: Sequence[int]
    source: str  # "rule", or who wrote it

    def prompt(self, examples: Examples) -> Prompt:
        """The prompt that it stands for."""
        shots = f"{len(self.places)} drawn training examples" if self.places else "no examples"
        description = f"{shots}, told ({self.source}): {self.told}" if self.told else shots
        return examples.fixed_prompt(self.name, description, self.places, self.told)


def propose(
    search: Search, count: int, *, chat: ChatEngine | None = None, endpoint: Endpoint | None = None
) -> list[Proposal]:
    """`count` candidates: each an instruction with a bootstrap draw of examples, or without any.

    Instructions come from rules on the training targets, and from a model that is shown a few training samples: the
    `endpoint` if there is one, else the base itself. A model that fails leaves the rules.
    """
    random = Random(f"optimise/{search.seed}")
    told = [("", "rule"), *((text, "rule") for text in _by_rule(search))]
    told += _written(search, random, chat, endpoint)
    told = list(dict.fromkeys(told))
    sizes = [0, *sorted({size for size in search.few_shot if size > 0})]
    found: list[Proposal] = []
    for number in range(count):
        text, source = told[number % len(told)]
        size = min(random.choice(sizes), len(search.examples.samples))
        if not text and not size:
            size = min(max(sizes), len(search.examples.samples))
        places = _bootstrap(search.examples.samples, size, random)
        found.append(Proposal(f"optimised_{number + 1}", text, places, source))
    return found


def optimised_prompts(
    search: Search,
    proposals: Sequence[Proposal],
    chat: ChatEngine,
    *,
    max_new_tokens: int,
    batch_size: int,
    once: Once,
    on_progress: Progress | None = None,
) -> list[Prompt]:
    """The one or two prompts that survive successive halving on validation samples; what was answered is kept."""
    prompts = {one.name: one.prompt(search.examples) for one in proposals}
    alive, done = list(prompts), 0
    heard: dict[str, list[str]] = {name: [] for name in alive}
    for rows in _rounds(len(search.validation), len(alive)):
        for name in alive:
            asked = partial(
                _answers, prompts[name], search.validation[done:rows], chat, max_new_tokens, batch_size, on_progress
            )
            heard[name] += once(f"optimise/{name}/{done}", asked)
        done = rows
        targets = [sample.target for sample in search.validation[:rows]]
        scores = {name: _score(search, heard[name], targets) for name in alive}
        alive = sorted(alive, key=lambda name: -scores[name])[: max(MOST_SURVIVORS, math.ceil(len(alive) / 2))]
    return [prompts[name] for name in alive[:MOST_SURVIVORS]]


def _rounds(num_rows: int, num_candidates: int) -> list[int]:
    """How many validation samples are answered by the end of each round."""
    num_rounds = max(1, math.ceil(math.log2(max(2, num_candidates / MOST_SURVIVORS))))
    first = max(min(FEWEST_ROWS, num_rows), num_rows // 2**num_rounds)
    sizes = [min(num_rows, first * 2**number) for number in range(num_rounds)]
    return list(dict.fromkeys(sizes)) if num_rows else []


def _answers(
    prompt: Prompt,
    samples: Sequence[Sample],
    chat: ChatEngine,
    max_new_tokens: int,
    batch_size: int,
    on_progress: Progress | None,
) -> list[str]:
    return answers_of(
        prompt.name,
        prompt,
        samples,
        chat,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        on_progress=on_progress,
    ).predictions


def _score(search: Search, predictions: Sequence[str], targets: Sequence[str]) -> float:
    return search.scoring.score(predictions, targets).metrics[search.scoring.primary].value


def _by_rule(search: Search) -> list[str]:
    """Instructions that say what the training targets look like."""
    form = _form([sample.target for sample in search.train if sample.target], search.scoring.labels)
    return [template.format(form=form) for template in TEMPLATES]


def _form(targets: Sequence[str], labels: Sequence[str] | None) -> str:
    if labels:
        return f"Answer with exactly one of: {', '.join(labels)}."
    keys = [tuple(value) for value in map(_parsed, targets) if isinstance(value, dict)]
    if targets and len(keys) > 0.95 * len(targets):
        return f"Answer with one JSON object with the keys {', '.join(dict.fromkeys(k for row in keys for k in row))}."
    words = sorted(len(target.split()) for target in targets) or [1]
    most = words[int(0.9 * (len(words) - 1))]
    return "Answer in one word." if most <= 1 else f"Answer in at most {most} words."


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _written(
    search: Search, random: Random, chat: ChatEngine | None, endpoint: Endpoint | None
) -> list[tuple[str, str]]:
    """Instructions that a model wrote from a few training samples, and who; those that are no instruction left out."""
    pool = search.examples.samples
    if not pool or (chat is None and endpoint is None):
        return []
    found = []
    for wish in REWRITES:
        shown = random.sample(pool, min(SHOWN_EXAMPLES, len(pool)))
        pairs = "\n\n".join(f"Input: {one.input_text}\nAnswer: {one.target}" for one in shown)
        text = _said(f"{wish}\n\n{pairs}\n\nInstruction:", chat, endpoint)
        if 10 <= len(text) <= 600:
            found.append((text, endpoint.model if endpoint is not None else "the base model"))
    return found


def _said(question: str, chat: ChatEngine | None, endpoint: Endpoint | None) -> str:
    if endpoint is not None:
        try:
            return endpoint.reply([{"role": "user", "content": question}], max_tokens=REWRITE_TOKENS).text.strip()
        except ServeError:
            return ""  # the rules remain
    if chat is None:
        return ""
    room = chat.new_tokens(REWRITE_TOKENS)
    ids = chat.prompt_ids([Message("user", question)])
    return chat.replies([ids], max_new_tokens=room, batch_size=1)[0].text.strip()


def _bootstrap(pool: Sequence[Sample], size: int, random: Random) -> list[int]:
    """Places of `size` different samples; targets as different as they come."""
    order = random.sample(range(len(pool)), len(pool))
    seen: dict[str, int] = {}
    ranked = []
    for place in order:
        rank = seen.get(pool[place].target, 0)
        seen[pool[place].target] = rank + 1
        ranked.append((rank, place))
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])[:size]]
