"""Ways of asking the base model: its own system message, another one, and examples of the training split before it."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from random import Random
from typing import NamedTuple, Protocol

from foretune.data.samples import Message, Sample
from foretune.engine.chat import ChatEngine
from foretune.evaluate.neighbours import Neighbours

__all__ = [
    "ZERO_SHOT",
    "Asked",
    "Examples",
    "Library",
    "Prompt",
    "ask",
    "few_shot_prompts",
    "retrieval_prompts",
    "zero_shot_prompts",
]

MAX_POOL = 2000  # training samples that neighbours are looked for among
NUM_PASSAGES = (1, 3, 5)  # tried for the retrieval baseline
SPARE = 4  # times as many examples at hand as wanted, so that shorter ones can stand in for those that do not fit
BOUNDARY_TOKENS = 8  # by which an example's size may differ from prompt to prompt, where texts meet
ZERO_SHOT = "zero_shot"
FOUND = "These passages may help:"


class Picker(Protocol):
    """Chooses examples for a sample, the most wanted first."""

    def pick(self, sample: Sample, count: int) -> Sequence[Sample]:
        """At most `count` training samples."""


class Library(Protocol):
    """Finds passages of documents for a sample, the most relevant first."""

    def passages(self, sample: Sample, count: int) -> Sequence[str]:
        """At most `count` texts."""


@dataclass(frozen=True)
class Prompt:
    """One way of asking.

    `system` stands in place of the sample's own system message, None for its own; `told` is put behind it, and behind
    that `num_passages` of the `library`.
    """

    name: str
    description: str
    system: str | None = None
    told: str = ""
    num_shots: int = 0
    picker: Picker | None = None
    num_passages: int = 0
    library: Library | None = None

    def shots(self, sample: Sample) -> list[Sample]:
        """The examples for a sample and, behind them, their stand-ins; the most wanted first."""
        return list(self.picker.pick(sample, SPARE * self.num_shots)) if self.picker else []

    def messages(self, sample: Sample, shots: Sequence[Sample], num_passages: int | None = None) -> list[Message]:
        """System message, examples as turns (the most wanted last, next to the question), the sample's own turns.

        `num_passages`: how many passages of the library are given; None for all that the prompt wants.
        """
        own, turns = _parted(sample)
        found = self._passages(sample, self.num_passages if num_passages is None else num_passages)
        parts = (own if self.system is None else self.system, self.told, found)
        system = "\n".join(part for part in parts if part)
        head = [Message("system", system)] if system else []
        return [*head, *(turn for shot in reversed(shots) for turn in _shot_turns(shot, own)), *turns]

    def _passages(self, sample: Sample, count: int) -> str:
        found = self.library.passages(sample, count) if self.library is not None and count else ()
        return "\n\n".join([FOUND, *found]) if found else ""


class Asked(NamedTuple):
    """A sample's prompt in tokens, and how many examples it has room for."""

    ids: list[int]
    num_shots: int


def ask(prompt: Prompt, samples: Iterable[Sample], chat: ChatEngine, max_new_tokens: int) -> list[Asked]:
    """The prompts of the samples, each with as many examples as fit into the context window with the answer.

    An example that does not fit makes room for the next wanted one that does.
    """
    room = chat.room(max_new_tokens)
    sizes: dict[tuple[int, str], int] = {}
    return [_asked(prompt, sample, chat, room, sizes) for sample in samples]


def _asked(
    prompt: Prompt, sample: Sample, chat: ChatEngine, room: int | None, sizes: dict[tuple[int, str], int]
) -> Asked:
    """`sizes` remembers how many tokens an example takes, so that most that do not fit need not be tried."""
    shots = prompt.shots(sample)
    wanted = shots[: prompt.num_shots]
    ids = chat.prompt_ids(prompt.messages(sample, wanted))
    if room is None or len(ids) <= room:
        return Asked(ids, len(wanted))
    if prompt.num_passages:
        return Asked(_with_fewer_passages(prompt, sample, chat, room), 0)
    chosen: list[Sample] = []
    ids = chat.prompt_ids(prompt.messages(sample, chosen))
    num_bare, own = len(ids), _parted(sample)[0]
    for shot in shots:
        if len(chosen) == prompt.num_shots:
            break
        size = sizes.get((id(shot), own))
        if size is not None and len(ids) + size > room + BOUNDARY_TOKENS:
            continue
        if size is None:
            sizes[id(shot), own] = len(chat.prompt_ids(prompt.messages(sample, [shot]))) - num_bare
        longer = chat.prompt_ids(prompt.messages(sample, [*chosen, shot]))
        if len(longer) <= room:
            chosen.append(shot)
            ids = longer
    return Asked(ids, len(chosen))


def _with_fewer_passages(prompt: Prompt, sample: Sample, chat: ChatEngine, room: int) -> list[int]:
    """The prompt with as many passages as fit, none if none does."""
    for count in range(prompt.num_passages - 1, 0, -1):
        ids = chat.prompt_ids(prompt.messages(sample, (), count))
        if len(ids) <= room:
            return ids
    return chat.prompt_ids(prompt.messages(sample, (), 0))


def retrieval_prompts(library: Library, zero_shot: Prompt) -> list[Prompt]:
    """The best prompt without examples, with 1, 3 or 5 passages of the documents behind it."""
    said = zero_shot.description.removeprefix("no examples, ")
    return [
        replace(
            zero_shot,
            name=f"retrieval_{count}",
            description=f"{count} passage{'' if count == 1 else 's'} found for the question (BM25), {said}",
            num_passages=count,
            library=library,
        )
        for count in NUM_PASSAGES
    ]


def zero_shot_prompts(instructions: Sequence[str], labels: Sequence[str]) -> list[Prompt]:
    """The data's own system message, the user's instructions in its place, and it with the class names, if any."""
    prompts = [Prompt(ZERO_SHOT, "no examples, the data's own system message")]
    for number, text in enumerate(instructions, start=1):
        prompts.append(Prompt(f"instruction_{number}", f"no examples, system message: {text}", system=text))
    if labels:
        told = f"Answer with one of: {', '.join(labels)}."
        prompts.append(Prompt("class_names", "no examples, the class names listed in the system message", told=told))
    return prompts


def few_shot_prompts(sizes: Sequence[int], examples: Examples, seed: int, zero_shot: Prompt) -> list[Prompt]:
    """For each number of examples the nearest ones and a random draw; two draws where there is only one number.

    For the largest number also the examples that are most unlike each other.
    Where `zero_shot`, the best prompt without examples, is not the plain one, the nearest examples behind it too.
    """
    wanted = sorted({size for size in sizes if size > 0}, reverse=True)
    if not examples.samples or not wanted:
        return []
    prompts = [examples.nearest_prompt(size) for size in wanted]
    draws = wanted * 2 if len(wanted) == 1 else wanted
    prompts += [examples.random_prompt(size, seed, number) for number, size in enumerate(draws, start=1)]
    prompts.append(examples.diverse_prompt(wanted[0]))
    if zero_shot.name != ZERO_SHOT:
        prompts.append(_behind(zero_shot, prompts[0]))
    return prompts


class Examples:
    """Training samples that can stand as examples: conversations of user and assistant in turn."""

    def __init__(self, train_samples: Sequence[Sample], seed: int) -> None:
        fit = [sample for sample in train_samples if _alternates(sample)]
        if len(fit) > MAX_POOL:
            chosen = sorted(Random(f"pool/{seed}").sample(range(len(fit)), MAX_POOL))
            fit = [fit[place] for place in chosen]
        self.samples = fit

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours([sample.input_text for sample in self.samples])

    def pick(self, sample: Sample, count: int) -> list[Sample]:
        """The `count` training samples whose input is most like the sample's."""
        return [self.samples[place] for place in self._neighbours.nearest(sample.input_text, count)]

    def nearest_prompt(self, num_shots: int) -> Prompt:
        """The training samples most like the question, another choice for each question."""
        description = f"up to {num_shots} training examples, those most like the question"
        return Prompt(f"nearest_{num_shots}", description, num_shots=num_shots, picker=self)

    def diverse_prompt(self, num_shots: int) -> Prompt:
        """The same training samples before every question, which cover all of them as well as so few can."""
        picked = self._neighbours.spread(SPARE * num_shots)
        description = f"up to {num_shots} training examples that differ most from each other"
        picker = _Fixed(tuple(self.samples[place] for place in picked))
        return Prompt(f"diverse_{num_shots}", description, num_shots=num_shots, picker=picker)

    def fixed_prompt(self, name: str, description: str, places: Sequence[int], told: str) -> Prompt:
        """The training samples at these places before every question, with an instruction behind the system message."""
        picker = _Fixed(tuple(self.samples[place] for place in places))
        return Prompt(name, description, told=told, num_shots=len(places), picker=picker if places else None)

    def random_prompt(self, num_shots: int, seed: int, draw: int) -> Prompt:
        """The same randomly drawn training samples before every question, their answers as different as can be."""
        order = _varied(Random(f"few-shot/{seed}/{draw}").sample(self.samples, len(self.samples)))
        description = f"up to {num_shots} random training examples (draw {draw})"
        picker = _Fixed(tuple(order[: SPARE * num_shots]))
        return Prompt(f"random_{num_shots}_{draw}", description, num_shots=num_shots, picker=picker)


class _Fixed(NamedTuple):
    """The same examples for every sample."""

    samples: tuple[Sample, ...]

    def pick(self, sample: Sample, count: int) -> Sequence[Sample]:
        """The first `count`."""
        return self.samples[:count]


def _behind(zero_shot: Prompt, few_shot: Prompt) -> Prompt:
    said = zero_shot.description.removeprefix("no examples, ")
    return replace(
        few_shot,
        name=f"{few_shot.name}_{zero_shot.name}",
        description=f"{few_shot.description}, {said}",
        system=zero_shot.system,
        told=zero_shot.told,
    )


def _varied(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in rounds, each round with every target once."""
    by_target: dict[str, list[Sample]] = {}
    for sample in samples:
        by_target.setdefault(sample.target, []).append(sample)
    return [sample for round_ in zip_longest(*by_target.values()) for sample in round_ if sample is not None]


def _parted(sample: Sample) -> tuple[str, tuple[Message, ...]]:
    """System text ("" where there is none) and the turns before the answer."""
    prompt = sample.prompt
    if prompt and prompt[0].role == "system":
        return prompt[0].content, prompt[1:]
    return "", prompt


def _shot_turns(shot: Sample, system: str) -> list[Message]:
    """An example as turns; a system message of its own, unlike the question's, goes into its first turn."""
    own, turns = _parted(shot)
    first = turns[0]
    if own and own != system:
        first = Message(first.role, f"{own}\n\n{first.content}")
    return [first, *turns[1:], Message("assistant", shot.target)]


def _alternates(sample: Sample) -> bool:
    roles = [turn.role for turn in _parted(sample)[1]]
    return bool(sample.target) and roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
