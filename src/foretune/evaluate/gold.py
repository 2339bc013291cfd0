"""Facts that a question needs, for asking it again with them: from the row, from documents, from training examples."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from foretune.data.samples import Sample
from foretune.data.targets import number_of
from foretune.evaluate.neighbours import Neighbours
from foretune.evaluate.retrieval import Bm25
from foretune.evaluate.scorers.classification import Labels
from foretune.evaluate.scorers.structured import FENCE, parse_json
from foretune.records.failures import ContextSource

__all__ = ["CONTEXT_FIELDS", "Gold", "form_of", "form_told", "gold_context", "readings"]

CONTEXT_FIELDS = ("context", "contexts", "documents", "document", "passages", "passage", "facts", "evidence")
NUM_PASSAGES = 3
SHOWN_TARGETS, SHOWN_CHARS = 3, 160
MARKED = re.compile(r"(?:answer|output|result|label)\s*(?:is|:)\s*", re.IGNORECASE)


class Gold:
    """The passages that hold each sample's answer, as near as they can be found with the answer at hand.

    `turned` gives each sample another one's passages: a placebo of the same kind and length.
    """

    def __init__(self, source: ContextSource, passages: dict[str, tuple[str, ...]]) -> None:
        self.source = source
        self._passages = passages

    def passages(self, sample: Sample, count: int) -> list[str]:
        """At most `count` passages of the sample."""
        return list(self._passages.get(sample.id, ()))[:count]

    def turned(self) -> Gold:
        """Each sample with the passages of the next one."""
        ids = list(self._passages)
        moved = {name: self._passages[ids[(place + 1) % len(ids)]] for place, name in enumerate(ids)}
        return Gold(self.source, moved)


def gold_context(
    samples: Sequence[Sample], train: Sequence[Sample], library: Bm25 | None, labels: Sequence[str] | None
) -> Gold:
    """Where facts are to be had: a field of the row, else the documents, else like training examples.

    Examples are no facts where answers are labels: the few-shot prompts have shown them already. Documents are searched
    with question and answer together, as a perfect retrieval would find them.
    """
    own = {sample.id: text for sample in samples if (text := _own_context(sample))}
    if samples and len(own) >= 0.9 * len(samples):
        return Gold("field", own)
    if library is not None:
        found = {sample.id: _looked_up(library, sample) for sample in samples}
        return Gold("documents", found)
    if labels is None and train:
        return Gold("examples", _like(samples, train))
    return Gold("none", {})


def _own_context(sample: Sample) -> tuple[str, ...]:
    """The passages that stand in a field of the row, where the question does not show them already."""
    for name in CONTEXT_FIELDS:
        value = sample.meta.get(name)
        texts = value if isinstance(value, list) else [value]
        found = tuple(str(text) for text in texts if isinstance(text, str) and text.strip())
        if found and any(text not in sample.input_text for text in found):
            return found
    return ()


def _looked_up(library: Bm25, sample: Sample) -> tuple[str, ...]:
    return tuple(library.best(f"{sample.input_text}\n{sample.target}", NUM_PASSAGES))


def _like(samples: Sequence[Sample], train: Sequence[Sample]) -> dict[str, tuple[str, ...]]:
    """The training examples most like question and answer, as statements."""
    index = Neighbours([f"{sample.input_text}\n{sample.target}" for sample in train])
    return {
        sample.id: tuple(
            f"{train[place].input_text}\n{train[place].target}"
            for place in index.nearest(f"{sample.input_text}\n{sample.target}", NUM_PASSAGES)
        )
        for sample in samples
    }


class Form(NamedTuple):
    """What answers look like: labels, json, number or text; the labels where they are labels."""

    kind: str
    labels: tuple[str, ...] = ()


def form_of(targets: Sequence[str], labels: Sequence[str] | None) -> Form:
    """The form of the training targets."""
    if labels:
        return Form("labels", tuple(labels))
    if targets and all(isinstance(parse_json(target).value, dict | list) for target in targets):
        return Form("json")
    if targets and all(number_of(target) is not None for target in targets):
        return Form("number")
    return Form("text")


def form_told(form: Form, targets: Sequence[str]) -> str:
    """The instruction that states the form of an answer."""
    if form.kind == "labels":
        return f"Answer with exactly one of these labels and nothing else: {', '.join(form.labels)}."
    if form.kind == "number":
        return "Answer with the number alone."
    shown = [target if len(target) <= SHOWN_CHARS else target[:SHOWN_CHARS] + "..." for target in targets]
    examples = "\n".join(list(dict.fromkeys(shown))[:SHOWN_TARGETS])
    if form.kind == "json":
        return f"Answer with JSON alone, without any other text, in the form of these examples:\n{examples}"
    return f"Answer in exactly the form of these examples, without any other text:\n{examples}"


def readings(answer: str, form: Form) -> list[str]:
    """What a lenient reader may take as the answer: out of a fence, behind "Answer:", the one label that is named."""
    text = answer.strip()
    fenced = FENCE.fullmatch(answer)
    plain = [text, fenced[1].strip() if fenced else "", *(part.strip() for part in MARKED.split(text)[1:])]
    if form.kind == "labels":
        found = _one_label(text, form.labels)
        return [*plain, found] if found else plain
    if form.kind == "json":
        return [*plain, *_json_within(text)]
    if form.kind == "number":
        numbers = re.findall(r"-?\d[\d,]*\.?\d*", text)
        return [*plain, *(number.replace(",", "") for number in numbers[-1:])]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bare = [part.strip(" \t\"'`.*") for part in (*plain, *lines[:1], *lines[-1:])]
    return [*plain, *lines[:1], *lines[-1:], *bare]


def _one_label(text: str, labels: Sequence[str]) -> str:
    """The only label that stands in the text as a word; a label within a longer one that is named does not count."""
    named = [label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)]
    whole = [label for label in named if not any(label != other and label in other for other in named)]
    parsed = Labels.of(labels).parse(text) if labels else None
    return parsed or (whole[0] if len(whole) == 1 else "")


def _json_within(text: str) -> list[str]:
    """The outermost object or list inside a text."""
    found = []
    for first, last in (("{", "}"), ("[", "]")):
        start, end = text.find(first), text.rfind(last)
        if 0 <= start < end:
            found.append(text[start : end + 1])
    return found
