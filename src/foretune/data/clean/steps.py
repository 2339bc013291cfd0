"""What a recipe can do to rows: drop, normalise, mend, relabel; each a function of samples, parameters and a seed."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from foretune.data.clean.normal import (
    KEY_STYLES,
    KeyStyle,
    article_text,
    normalised_json,
    normalised_text,
    plain_text,
    restyled_keys,
)
from foretune.data.neardup import cluster_roots, near_duplicates
from foretune.data.samples import Message, Sample, content_key
from foretune.data.split import input_key
from foretune.data.subset import number_at, ordered_by_seed
from foretune.errors import ConfigError, DataError

__all__ = ["Outcome", "Samples", "with_texts"]

Samples = list[Sample]


class Outcome(NamedTuple):
    """What a step leaves, and the ids of rows that it dropped, changed or added."""

    samples: Samples
    dropped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def with_texts(sample: Sample, change: Callable[[str], str], *, roles: Sequence[str] = ()) -> Sample:
    """The sample with `change` made to its text and to its messages (of `roles`, where some are given)."""

    def changed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(replace(m, content=change(m.content)) if not roles or m.role in roles else m for m in messages)

    text = change(sample.text) if sample.text and (not roles or "text" in roles) else sample.text
    return replace(sample, messages=changed(sample.messages), rejected=changed(sample.rejected), text=text)


def _kept(samples: Samples, keep: Callable[[Sample], bool]) -> Outcome:
    flags = [keep(sample) for sample in samples]
    left = [sample for sample, flag in zip(samples, flags, strict=True) if flag]
    return Outcome(left, tuple(sample.id for sample, flag in zip(samples, flags, strict=True) if not flag))


def _mapped(samples: Samples, change: Callable[[Sample], Sample]) -> Outcome:
    after = [change(sample) for sample in samples]
    pairs = zip(samples, after, strict=True)
    return Outcome(after, changed=tuple(old.id for old, new in pairs if content_key(old) != content_key(new)))


def drop_ids(samples: Samples, *, ids: Sequence[str]) -> Outcome:
    """Drop the rows with these ids: what a reader rejected."""
    unwanted = set(ids)
    return _kept(samples, lambda sample: sample.id not in unwanted)


def drop_equal(samples: Samples) -> Outcome:
    """Keep the first of rows that say the same."""
    seen: set[str] = set()

    def is_new(sample: Sample) -> bool:
        key = content_key(sample)
        return not (key in seen or seen.add(key))  # type: ignore[func-returns-value]

    return _kept(samples, is_new)


def drop_near(samples: Samples, *, threshold: float = 0.7, rating: str = "", same_target: bool = True) -> Outcome:
    """Keep one row of each group of near-duplicate inputs: the best rated, else the first.

    With `same_target` only rows with the same answer are copies; others are contradictions, which need a reader.
    """
    inputs = [input_key(sample) for sample in samples]
    pairs = near_duplicates(inputs, threshold=threshold)
    links = [(p.left, p.right) for p in pairs if not same_target or samples[p.left].target == samples[p.right].target]
    roots = cluster_roots(len(samples), links)
    best: dict[int, int] = {}
    for row, root in enumerate(roots):
        best[root] = max(best.get(root, row), row, key=lambda r: (_rated(samples[r], rating), -r))
    kept = {id(samples[row]) for row in best.values()}
    return _kept(samples, lambda sample: id(sample) in kept)


def _rated(sample: Sample, rating: str) -> float:
    number = number_at(sample, rating) if rating else None
    return -math.inf if number is None else number


def drop_length(
    samples: Samples, *, part: str = "target", min_chars: int = 0, max_chars: int = 0, min_words: int = 0
) -> Outcome:
    """Drop rows whose input or answer (`part`: input, target) is too short or too long; 0 = no limit."""

    def fits(sample: Sample) -> bool:
        text = _part(sample, part).strip()
        too_long = bool(max_chars) and len(text) > max_chars
        return len(text) >= min_chars and len(text.split()) >= min_words and not too_long

    return _kept(samples, fits)


def _part(sample: Sample, part: str) -> str:
    texts = {"input": sample.input_text, "target": sample.target or sample.text}
    if part not in texts:
        raise ConfigError(f"part is {part!r}, expected input or target", fix='part = "target"')
    return texts[part]


def drop_matching(samples: Samples, *, pattern: str, part: str = "target") -> Outcome:
    """Drop rows whose input or answer matches a regular expression: boilerplate, refusals, an outdated term."""
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ConfigError(
            f"pattern {pattern!r} is no regular expression: {error}", fix="mend it in the recipe"
        ) from None
    return _kept(samples, lambda sample: not compiled.search(_part(sample, part)))


def drop_bottom(samples: Samples, *, fraction: float = 0.1, rating: str = "rating", seed: int = 0) -> Outcome:
    """Drop floor(fraction x n) of the n rows, those with the lowest rating; ties fall by seed and content.

    Raises DataError where a row has no rating: what nobody rated is not bad.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"fraction is {fraction}, expected 0 to 1", fix="fraction = 0.1")
    unrated = [sample.id for sample in samples if number_at(sample, rating) is None]
    if unrated:
        what = f"{len(unrated)} of {len(samples)} rows have no number in the field {rating!r}, such as {unrated[0]}"
        raise DataError(what, fix="rate them, or name the field: rating = FIELD")
    order = sorted(ordered_by_seed(samples, seed), key=lambda sample: number_at(sample, rating) or 0.0)
    worst = {id(sample) for sample in order[: math.floor(fraction * len(samples) + 1e-9)]}
    return _kept(samples, lambda sample: id(sample) not in worst)


def drop_stylish(
    samples: Samples, *, style: str = "style", content: str = "content", min_style: float = 4, max_content: float = 3
) -> Outcome:
    """Drop rows of good style but mediocre content: style >= 4 and content <= 3. Rows without both ratings stay."""

    def stays(sample: Sample) -> bool:
        form, substance = number_at(sample, style), number_at(sample, content)
        return form is None or substance is None or form < min_style or substance > max_content

    return _kept(samples, stays)


def keep_rated(samples: Samples, *, rating: str = "rating", at_least: float) -> Outcome:
    """Keep rows rated `at_least` so much; rows without a rating stay."""
    return _kept(samples, lambda s: (number := number_at(s, rating)) is None or number >= at_least)


def normalise(samples: Samples, *, json: bool = False, roles: Sequence[str] = ()) -> Outcome:
    """Even out unicode, white space and line ends; with `json` also how JSON answers are written."""
    change = (lambda text: normalised_json(normalised_text(text))) if json else normalised_text
    return _mapped(samples, lambda sample: with_texts(sample, change, roles=roles))


def strip_html(samples: Samples, *, roles: Sequence[str] = ()) -> Outcome:
    """Take HTML out of texts."""
    return _mapped(samples, lambda sample: with_texts(sample, plain_text, roles=roles))


def clean_articles(samples: Samples, *, roles: Sequence[str] = ()) -> Outcome:
    """Reduce news pages to the article: no HTML, by-lines, captions, buttons or cookie notes."""
    return _mapped(samples, lambda sample: with_texts(sample, article_text, roles=roles))


def rename_keys(samples: Samples, *, style: str = "snake_case") -> Outcome:
    """Write the keys of JSON answers in one style: snake_case or camelCase."""
    if style not in KEY_STYLES:
        raise ConfigError(f"style is {style!r}, expected {' or '.join(KEY_STYLES)}", fix='style = "snake_case"')
    chosen: KeyStyle = "snake_case" if style == "snake_case" else "camelCase"
    return _mapped(samples, lambda s: with_texts(s, lambda text: restyled_keys(text, chosen), roles=("assistant",)))


def set_targets(samples: Samples, *, targets: Mapping[str, str]) -> Outcome:
    """Write a corrected answer over that of the rows named by id."""

    def corrected(sample: Sample) -> Sample:
        last = sample.last_answer
        if sample.id not in targets or last < 0:
            return sample
        message = replace(sample.messages[last], content=targets[sample.id])
        return replace(sample, messages=(*sample.messages[:last], message, *sample.messages[last + 1 :]))

    return _mapped(samples, corrected)
