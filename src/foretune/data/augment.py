"""More rows out of few: rephrased, mistyped, abbreviated or reformatted, each with its provenance."""

# SPDX-License-Identifier: Apache-2.0
#
# Only the last user message changes; the answer stays, so a change must keep the meaning. A new row is of the group of
# the row it was made from: whoever splits afterwards keeps both on one side. `meta["augmented"]` says how it was made.
from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from foretune.data.neardup import normalised
from foretune.data.noisy import NOISES, noisy_sample
from foretune.data.samples import Sample, sample_hash
from foretune.data.subset import ordered_by_seed
from foretune.errors import ConfigError

__all__ = ["FORMATS", "KINDS", "USUAL_KINDS", "Rephrase", "augmented", "rephrased_by_rule"]

Rephrase = Callable[[str], str]
TYPO_RATE = 0.08
SWAPS = (  # pairs that say the same in a request; each is tried in both directions
    ("how do I", "how can I"),
    ("can you", "could you"),
    ("I want to", "I would like to"),
    ("I need to", "I have to"),
    ("what is", "what's"),
    ("it is", "it's"),
    ("I am", "I'm"),
    ("I have", "I've"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("cannot", "can't"),
    ("is not", "isn't"),
    ("did not", "didn't"),
    ("why is", "how come"),
    ("tell me", "let me know"),
    ("show me", "give me"),
    ("is it possible to", "can I"),
    ("help me", "assist me"),
    ("get", "receive"),
    ("buy", "purchase"),
    ("begin", "start"),
    ("fix", "repair"),
    ("large", "big"),
)
QUESTION = re.compile(r"^(?:how|what|why|when|where|who|which|can|could|is|are|do|does|did|will|would|should)\b", re.I)
OPENINGS = ("Please tell me: ", "I would like to know: ", "Quick question: ", "Could you help me? ", "Hello, ")


def rephrased_by_rule(text: str, seed: int = 0) -> str:
    """The text in other words: set phrases swapped, or an opening before a question; the same text if none fits."""
    rng = random.Random(hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest())
    pairs = [pair for swap in SWAPS for pair in (swap, swap[::-1])]
    fitting = [pair for pair in pairs if re.search(rf"\b{re.escape(pair[0])}\b", text, re.IGNORECASE)]
    rng.shuffle(fitting)
    result = text
    for old, new in fitting[: rng.randint(1, 2)]:
        result = _swapped(result, old, new)
    if normalised(result) == normalised(text) and QUESTION.match(text.strip()):
        return rng.choice(OPENINGS) + text.strip()
    return result


def _swapped(text: str, old: str, new: str) -> str:
    """The first `old` replaced by `new`, with its capital."""

    def cased(match: re.Match[str]) -> str:
        return _cased(new, match.group())

    return re.sub(rf"\b{re.escape(old)}\b", cased, text, count=1, flags=re.IGNORECASE)


def _cased(new: str, old: str) -> str:
    return new[0].upper() + new[1:] if old[:1].isupper() else new


def _lower(text: str) -> str:
    return text.lower()


def _no_stop(text: str) -> str:
    return text.rstrip().rstrip(".!?")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shouted(text: str) -> str:
    return text.upper()


FORMATS: dict[str, Rephrase] = {"lower": _lower, "no_stop": _no_stop, "one_line": _one_line, "upper": _shouted}
KINDS = ("rephrase", *NOISES, *FORMATS)
USUAL_KINDS = ("rephrase", "typos", "casual")


def augmented(
    samples: Sequence[Sample],
    *,
    kinds: Sequence[str] = USUAL_KINDS,
    share: float = 0.2,
    rephrase: Rephrase | None = None,
    model_name: str = "",
    seed: int = 0,
) -> list[Sample]:
    """New rows made of `share` of the samples (chosen by seed), kinds in turn; the old ones are not among them.

    Where a kind changes nothing the next one is tried, then the next sample; there may be fewer rows than asked for.

    `rephrase` is a model as a function of text to text, used for the kind "rephrase" in place of the rules, with
    `model_name` for the provenance. Raises ConfigError.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds or not 0 < share <= 1:
        what = f"unknown kind {unknown[0]!r}" if unknown else f"share {share} of {len(kinds)} kinds"
        raise ConfigError(f"{what}, expected kinds of {', '.join(KINDS)} and a share up to 1", fix='kinds = ["typos"]')
    candidates = [s for s in samples if s.messages and s.input_text.strip() and "augmented" not in s.meta]
    wanted = round(share * len(candidates))
    known = {sample_hash(sample) for sample in samples}
    result: list[Sample] = []
    for sample in ordered_by_seed(candidates, seed):
        if len(result) == wanted:
            break
        turn = len(result) % len(kinds)
        made = (_made(sample, kind, seed, rephrase, model_name) for kind in (*kinds[turn:], *kinds[:turn]))
        new = next((row for row in made if row.input_text.strip() and sample_hash(row) not in known), None)
        if new is not None:
            known.add(sample_hash(new))
            result.append(new)
    return result


def _made(sample: Sample, kind: str, seed: int, rephrase: Rephrase | None, model_name: str) -> Sample:
    how = kind
    if kind in NOISES:
        new = noisy_sample(sample, seed=seed, rate=TYPO_RATE, kinds=(kind,))
    elif kind in FORMATS:
        new = _with_input(sample, FORMATS[kind])
    elif rephrase is not None:
        new, how = _with_input(sample, rephrase), f"rephrase:{model_name or 'model'}"
    else:
        new, how = _with_input(sample, lambda text: rephrased_by_rule(text, seed)), "rephrase:rule"
    done = {"how": [how], "from": sample.id, "seed": seed}
    meta = {**sample.meta, "augmented": done}
    return replace(new, id=f"{sample.id}~{kind}", group=sample.group or sample.id, meta=meta)


def _with_input(sample: Sample, change: Rephrase) -> Sample:
    index = max(i for i, message in enumerate(sample.prompt) if message.role == "user")
    message = replace(sample.messages[index], content=change(sample.messages[index].content))
    return replace(sample, messages=(*sample.messages[:index], message, *sample.messages[index + 1 :]))
