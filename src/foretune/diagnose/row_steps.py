"""What a mend does to training rows: drop copies and odd pairs, cut answers that run on, add rows from elsewhere."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from foretune.config.job import JobConfig
from foretune.data.clean.steps import drop_equal
from foretune.data.files import find_files
from foretune.data.formats import read_files
from foretune.data.neardup import near_duplicates
from foretune.data.pair_fit import own_inputs, pair_fits
from foretune.data.samples import Message, Sample, sample_hash
from foretune.data.split import input_key, without_copies
from foretune.data.subset import ordered_by_seed
from foretune.diagnose.thresholds import DEFAULT
from foretune.errors import DataError
from foretune.records.diagnosis import DataStep

__all__ = ["Halves", "Rows", "general_rows", "mended_rows", "production_halves"]

Samples = list[Sample]
LEAST_PROBED = 5  # odd rows, and sound ones, to tell by them how badly an odd pair fits
LEAST_TOLD_APART = 0.6  # of odd rows found less sound rows lost, by the fit alone
COMMON = 0.5  # of the rows that say themselves again, from which that is no way of answering
GENERAL_ROWS, GENERAL_CHARACTERS = 600, 200
GENERAL_SPACE = 9_000_000  # seeds of the corpus that no base was trained on begin here


class Rows(NamedTuple):
    """The training rows, the held-out rows, and the ids of training rows that were probed."""

    train: Samples
    held_out: Samples
    probed: set[str]


class Halves(NamedTuple):
    """Production rows to train on, and others to be judged by."""

    first: Samples
    second: Samples


def mended_rows(steps: Sequence[DataStep], rows: Rows) -> Samples:
    """The training rows after every step in turn."""
    for step in steps:
        if step.do in STEPS:
            rows = rows._replace(train=STEPS[step.do](rows, step))
    return rows.train


def _without_equal(rows: Rows, step: DataStep) -> Samples:
    return drop_equal(rows.train).samples


def _without_copies(rows: Rows, step: DataStep) -> Samples:
    """Rows that are not listed, and whose input is neither equal nor nearly equal to a held-out one nor holds one."""
    listed = set(step.ids)
    fresh = without_copies([sample for sample in rows.train if sample.id not in listed], rows.held_out, [])
    pairs = near_duplicates([*map(input_key, fresh), *map(input_key, rows.held_out)], containment=0.9)
    near = {pair.left for pair in pairs if pair.left < len(fresh) <= pair.right}
    return [sample for index, sample in enumerate(fresh) if index not in near]


def _without_odd(rows: Rows, step: DataStep) -> Samples:
    """Rows whose target belongs to its input, as far as the words tell; else without the rows that the probes found.

    Where the words tell only a part, the model's losses say which of the probed rows are odd; how well a target fits
    its input by the other pairs carries that to the rows that were not probed, and takes rows that are merely hard out
    of the list again.
    """
    belongs = own_inputs(*_pair_texts(rows.train), most_confused=DEFAULT.word_clear)
    if belongs is not None:
        return [sample for sample, is_own in zip(rows.train, belongs, strict=True) if is_own]
    listed = set(step.ids)
    fits = dict(zip((s.id for s in rows.train), pair_fits(*_pair_texts(rows.train)), strict=True))
    odd = [fits[name] for name in fits if name in listed and name in rows.probed]
    sound = [fits[name] for name in fits if name not in listed and name in rows.probed]
    cut = _cut(odd, sound)
    return [s for s in rows.train if (s.id not in listed if cut is None else fits[s.id] > cut)]


def _pair_texts(samples: Samples) -> tuple[list[str], list[str]]:
    return [input_key(sample) for sample in samples], [sample.target for sample in samples]


def _cut(odd: Sequence[float], sound: Sequence[float]) -> float | None:
    """The fit that parts odd from sound rows best (Youden 1950); None where it parts them badly."""
    if min(len(odd), len(sound)) < LEAST_PROBED:
        return None

    def told_apart(cut: float) -> float:
        return sum(fit <= cut for fit in odd) / len(odd) - sum(fit <= cut for fit in sound) / len(sound)

    best = max(odd, key=told_apart)
    return best if told_apart(best) >= LEAST_TOLD_APART else None


def _with_cut_answers(rows: Rows, step: DataStep) -> Samples:
    """Answers cut where they run on: before the input of another row, where they say themselves again, or by lines.

    The last where the first two find nothing: after as many lines as the longest held-out answer has.
    """
    known = {input_key(sample).strip() for sample in (*rows.train, *rows.held_out)}
    cut = [_cut_at(sample, _other_input(_lines(sample), known - {input_key(sample).strip()})) for sample in rows.train]
    again = [_repeats(_lines(sample)) for sample in cut]
    if sum(place is not None for place in again) >= COMMON * len(cut):
        cut = [_cut_at(sample, place) for sample, place in zip(cut, again, strict=True)]
    if any(one is not sample for one, sample in zip(cut, rows.train, strict=True)):
        return cut
    most = max((len(_lines(sample)) for sample in rows.held_out), default=0)
    return [_cut_at(sample, most if 0 < most < len(_lines(sample)) else None) for sample in rows.train]


def _lines(sample: Sample) -> list[str]:
    """The lines of the last answer; [] where there is none."""
    return sample.messages[sample.last_answer].content.split("\n") if sample.last_answer >= 0 else []


def _other_input(lines: Sequence[str], inputs: set[str]) -> int | None:
    """The first line behind which one of the inputs stands, whole; None where none does."""
    for at in range(1, len(lines)):
        if any("\n".join(lines[at:end]).strip() in inputs for end in range(at + 1, len(lines) + 1)):
            return at
    return None


def _repeats(lines: Sequence[str]) -> int | None:
    """The number of lines that the rest says again and again; None where it does not."""
    for size in range(1, len(lines) // 2 + 1):
        if any(line.strip() for line in lines[:size]) and all(
            line == lines[at % size] for at, line in enumerate(lines)
        ):
            return size
    return None


def _cut_at(sample: Sample, place: int | None) -> Sample:
    """The sample with its answer cut before the line at `place`; None leaves it."""
    if place is None:
        return sample
    return _with_answer(sample, sample.last_answer, "\n".join(_lines(sample)[:place]).rstrip())


def _with_answer(sample: Sample, place: int, text: str) -> Sample:
    message: Message = replace(sample.messages[place], content=text)
    return replace(sample, messages=(*sample.messages[:place], message, *sample.messages[place + 1 :]))


STEPS: dict[str, Callable[[Rows, DataStep], Samples]] = {
    "drop_equal": _without_equal,
    "drop_copies": _without_copies,
    "drop_odd": _without_odd,
    "cut_answers": _with_cut_answers,
}


def production_halves(path: Path, job: JobConfig) -> Halves:
    """The labelled rows of production in two halves by seed. Raises NotFound, DataError where none has a target."""
    read = read_files(
        find_files(path),
        task="chat",
        system=job.data.system,
        input_field=job.data.input_field,
        target_field=job.data.target_field,
    )
    labelled = ordered_by_seed([sample for sample in read.samples if sample.target], job.seed)
    if len(labelled) < 2:
        raise DataError(f"{path}: no labelled production rows to train on", fix="label some: foretune rate")
    middle = len(labelled) // 2
    return Halves([replace(one, id=f"production-{one.id}") for one in labelled[:middle]], labelled[middle:])


def general_rows(seed: int) -> Samples:
    """General conversations of the world that pebble was trained on, short ones, from seeds of their own."""
    from foretune.data.world.corpus import documents

    found: Samples = []
    start = 0
    while len(found) < GENERAL_ROWS:
        for document in documents(GENERAL_SPACE + seed, 1000, start):
            if document.messages and sum(len(turn["content"]) for turn in document.messages) < GENERAL_CHARACTERS:
                messages = tuple(Message.from_json(turn) for turn in document.messages)
                sample = Sample(id="", messages=messages)
                found.append(replace(sample, id=f"general-{sample_hash(sample)[:12]}"))
        start += 1000
    return found[:GENERAL_ROWS]
