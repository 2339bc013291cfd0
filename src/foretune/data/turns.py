"""Where the answers are in a rendered conversation, proved by rendering its beginnings."""

# SPDX-License-Identifier: Apache-2.0
#
# A turn of the assistant is proved when the conversation before it, rendered with the generation prompt, is a prefix of
# the whole text (it is what the model is fed when it answers), and the conversation up to it is a prefix as well.
# What lies between, up to and including the end-of-turn token, is what the model has to learn. A template that marks
# `{% generation %}` blocks is taken at its word only where the marks hold the answers.
from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from foretune.data.samples import Message, Sample
from foretune.data.template import Rendered
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError

__all__ = ["Layout", "Turn", "lay_out"]

OTHER_WAYS = "keep only the last answer of each conversation, or use a base model with another chat template"


PRETTY = re.compile(r"\n +\{\{[^-]")
FLATTEN = "the template is pretty-printed and renders its own line breaks: take the line breaks and indents out of it"


class Turn(NamedTuple):
    """One answer to learn: characters [start, end) of the text; none of them where its message says not to learn it."""

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
    rendered = tokenizer.render_spans(sample.messages, sample.tools)
    _check_tools(sample, tokenizer, rendered.text)
    _check_tool_results(sample, tokenizer, rendered.text)
    prompts = [tokenizer.render(sample.messages[:index], True, sample.tools) for index in indices]
    find = _marked_turns if tokenizer.template.has_generation else _proved_turns
    turns = find(sample, tokenizer, rendered, indices, prompts)
    ends_here = tokenizer.turn_end is None and indices[-1] == len(sample.messages) - 1
    text = rendered.text[: turns[-1].end] if ends_here else rendered.text
    is_learned = [sample.messages[index].learn for index in indices]
    kept = tuple(turn if learn else Turn(turn.start, turn.start) for turn, learn in zip(turns, is_learned, strict=True))
    return Layout(text, prompts[-1], kept, add_eos=ends_here and is_learned[-1] and tokenizer.eos_id is not None)


def _proved_turns(
    sample: Sample, tokenizer: Tokenizer, rendered: Rendered, indices: list[int], prompts: list[str]
) -> tuple[Turn, ...]:
    pairs = zip(indices, prompts, strict=True)
    return tuple(_proved_turn(sample, tokenizer, rendered.text, index, prompt) for index, prompt in pairs)


def _proved_turn(sample: Sample, tokenizer: Tokenizer, text: str, index: int, prompt: str) -> Turn:
    if not text.startswith(prompt):
        raise _refusal(sample, tokenizer, index, _difference("the generation prompt", prompt, text))
    is_last = index == len(sample.messages) - 1
    whole = text if is_last else tokenizer.render(sample.messages[: index + 1], tools=sample.tools)
    if not text.startswith(whole):
        raise _refusal(sample, tokenizer, index, _difference("the conversation up to it", whole, text))
    answer = whole[len(prompt) :]
    if not _holds_all(answer, sample.messages[index]):
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
    if not _holds_all(text[start:end], sample.messages[index]):
        why = f"its generation marks leave out the answer: they hold {text[start:end][:60]!r}"
        raise _refusal(sample, tokenizer, index, why)
    ending = tokenizer.turn_end[0] if tokenizer.turn_end is not None else ""
    if ending and ending not in text[start:end] and text.startswith(ending, end):
        end += len(ending)
    return Turn(start, end)


def _check_tools(sample: Sample, tokenizer: Tokenizer, text: str) -> None:
    """A template that does not know tools leaves their declarations out, and calls would come from nowhere."""
    tools = json.loads(sample.tools) if sample.tools else []
    names = [str(tool.get("function", tool).get("name")) for tool in tools]
    missing = [name for name in names if name not in text]
    if tools and (missing or tokenizer.render(sample.messages) == text):
        what = f"{tokenizer.template.name} leaves the declared tool {(missing or names)[0]!r} out of the prompt"
        raise DataError(what, fix="use a base model whose chat template knows tools, or take `tools` out of the rows")


def _check_tool_results(sample: Sample, tokenizer: Tokenizer, text: str) -> None:
    """A template that does not know tools may leave their results out, and the answer would come from nowhere."""
    for index, message in enumerate(sample.messages):
        if message.role == "tool" and not _holds(text, message.content):
            raise _refusal(sample, tokenizer, index, "the template leaves the tool's result out")


def _holds_all(rendered: str, message: Message) -> bool:
    """Whether the answer and its tool calls are in the rendered text."""
    functions = [call.get("function", call) for call in message.tool_calls]
    return _holds(rendered, message.content) and all(_holds_call(rendered, function) for function in functions)


def _holds_call(rendered: str, function: Mapping[str, Any]) -> bool:
    """Whether the name and every argument of a call are in the text, however the template spells them."""
    arguments = function.get("arguments") or {}
    values = json.loads(arguments) if isinstance(arguments, str) else arguments
    listed = [item for pair in values.items() for item in pair] if isinstance(values, dict) else [values]
    return all(_spells(rendered, item) for item in (function.get("name"), *listed))


def _spells(rendered: str, value: Any) -> bool:
    if isinstance(value, dict | list):
        items = [*value, *value.values()] if isinstance(value, dict) else value
        return all(_spells(rendered, item) for item in items)
    spelled = json.dumps(value, ensure_ascii=False)
    inside = json.dumps(spelled, ensure_ascii=False)[1:-1]  # JSON within a JSON text
    return any(text in rendered for text in (spelled, inside, json.dumps(value), str(value)))


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
