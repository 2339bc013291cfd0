"""Where the answers are in a rendered conversation, proved by rendering its beginnings."""

# SPDX-License-Identifier: Apache-2.0
#
# A turn of the assistant is proved when the conversation before it, rendered with the generation prompt, is a prefix of
# the whole text (it is what the model is fed when it answers), and the conversation up to it is a prefix as well.
# What lies between, up to and including the end-of-turn token, is what the model has to learn. A template that marks
# `{% generation %}` blocks is taken at its word only where the marks hold the answers.
from __future__ import annotations

import re
from typing import NamedTuple

from foretune.data.samples import Sample
from foretune.data.template import Rendered
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError

__all__ = ["Layout", "Turn", "lay_out"]

OTHER_WAYS = "keep only the last answer of each conversation, or use a base model with another chat template"


PRETTY = re.compile(r"\n +\{\{[^-]")
FLATTEN = "the template is pretty-printed and renders its own line breaks: take the line breaks and indents out of it"


class Turn(NamedTuple):
    """One answer to learn: characters [start, end) of the text."""

    start: int
    end: int


class Layout(NamedTuple):
    """A sample as text with its answers.

    `prompt` is what the model is fed before the last answer; `add_eos` asks for the end-of-text token that the
    template leaves out.
    """

    text: str
    prompt: str
    turns: tuple[Turn, ...]
    add_eos: bool = False


def lay_out(sample: Sample, tokenizer: Tokenizer) -> Layout:
    """Render a conversation and prove where its answers are. Raises DataError where that cannot be proved."""
    indices = [i for i, message in enumerate(sample.messages) if message.role == "assistant"]
    if not indices:
        raise DataError("no assistant message, so there is nothing to learn", fix="add the answer")
    rendered = tokenizer.render_spans(sample.messages)
    prompts = [tokenizer.render(sample.messages[:index], add_generation_prompt=True) for index in indices]
    find = _marked_turns if tokenizer.template.has_generation else _proved_turns
    turns = find(sample, tokenizer, rendered, indices, prompts)
    if tokenizer.turn_end is None and indices[-1] == len(sample.messages) - 1:
        return Layout(rendered.text[: turns[-1].end], prompts[-1], turns, add_eos=tokenizer.eos_id is not None)
    return Layout(rendered.text, prompts[-1], turns)


def _proved_turns(
    sample: Sample, tokenizer: Tokenizer, rendered: Rendered, indices: list[int], prompts: list[str]
) -> tuple[Turn, ...]:
    pairs = zip(indices, prompts, strict=True)
    return tuple(_proved_turn(sample, tokenizer, rendered.text, index, prompt) for index, prompt in pairs)


def _proved_turn(sample: Sample, tokenizer: Tokenizer, text: str, index: int, prompt: str) -> Turn:
    if not text.startswith(prompt):
        raise _refusal(sample, tokenizer, index, _difference("the generation prompt", prompt, text))
    is_last = index == len(sample.messages) - 1
    whole = text if is_last else tokenizer.render(sample.messages[: index + 1])
    if not text.startswith(whole):
        raise _refusal(sample, tokenizer, index, _difference("the conversation up to it", whole, text))
    answer = whole[len(prompt) :]
    if not _holds(answer, sample.messages[index].content):
        why = f"the template drops or rewrites the answer: it renders {answer[:60]!r}"
        raise _refusal(sample, tokenizer, index, why)
    return Turn(len(prompt), len(prompt) + _learned_length(sample, tokenizer, index, answer))


def _learned_length(sample: Sample, tokenizer: Tokenizer, index: int, answer: str) -> int:
    """How much of the rendered answer is learned: through the end-of-turn token, without what the template adds."""
    suffix = tokenizer.turn_suffix
    if suffix is None or not answer.endswith(suffix):
        why = f"the template ends it with {answer[-30:]!r}, elsewhere with {suffix!r}"
        raise _refusal(sample, tokenizer, index, why)
    end = len(tokenizer.turn_end[0]) if tokenizer.turn_end is not None else 0
    return len(answer) - len(suffix) + end


def _marked_turns(
    sample: Sample, tokenizer: Tokenizer, rendered: Rendered, indices: list[int], prompts: list[str]
) -> tuple[Turn, ...]:
    if len(rendered.spans) != len(indices):
        why = f"it marks {len(rendered.spans)} generated spans for {len(indices)} answers"
        raise _refusal(sample, tokenizer, indices[-1], why)
    if not rendered.text.startswith(prompts[-1]):
        why = _difference("the generation prompt", prompts[-1], rendered.text)
        raise _refusal(sample, tokenizer, indices[-1], why)
    return tuple(
        _marked_turn(sample, tokenizer, rendered.text, span, index, prompt)
        for span, index, prompt in zip(rendered.spans, indices, prompts, strict=True)
    )


def _marked_turn(
    sample: Sample, tokenizer: Tokenizer, text: str, span: tuple[int, int], index: int, prompt: str
) -> Turn:
    """The span less what inference feeds, plus the end-of-turn token if it stands right behind."""
    start, end = span
    if text.startswith(prompt):
        start = max(start, len(prompt))
    if not _holds(text[start:end], sample.messages[index].content):
        why = f"its generation marks leave out the answer: they hold {text[start:end][:60]!r}"
        raise _refusal(sample, tokenizer, index, why)
    ending = tokenizer.turn_end[0] if tokenizer.turn_end is not None else ""
    if ending and ending not in text[start:end] and text.startswith(ending, end):
        end += len(ending)
    return Turn(start, end)


def _holds(rendered: str, content: str) -> bool:
    """Whether the answer is in the rendered text, apart from white space that a template may trim or join."""
    return content.strip() in rendered or "".join(content.split()) in "".join(rendered.split())


def _difference(what: str, beginning: str, text: str) -> str:
    """Where a supposed prefix first differs."""
    pairs = enumerate(zip(beginning, text, strict=False))
    at = next((i for i, (left, right) in pairs if left != right), min(len(beginning), len(text)))
    shown = f"{beginning[at : at + 30]!r} against {text[at : at + 30]!r}"
    return f"{what} is not a prefix of the whole text (character {at}: {shown})"


def _refusal(sample: Sample, tokenizer: Tokenizer, index: int, why: str) -> DataError:
    which = f"message {index + 1} of {len(sample.messages)}"
    fix = FLATTEN if PRETTY.search(tokenizer.template.source) else OTHER_WAYS
    return DataError(f"{which}: the answer cannot be told from the prompt: {tokenizer.template.name}: {why}", fix=fix)
