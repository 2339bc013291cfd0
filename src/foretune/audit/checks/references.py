"""Checks of answers against structured inputs: what the input says and the answer leaves out or contradicts."""

# SPDX-License-Identifier: Apache-2.0
#
# How a value is said is learnt from the data. Slots whose value stands in nearly every answer word by word (names) are
# looked up. For the others word n-grams are chosen greedily as cues, the purest first and then the most informative
# (likelihood ratio, Dunning 1993) on the answers that no earlier cue explains; a cue belongs to the slot that it tells
# most of. Each word is also a cue by itself as affirmed or denied ("not ... friendly"). An answer without any cue of a
# given slot leaves it out; one with a cue that goes with other values, seven times in ten or more, contradicts it.
# Slots that are given and not said are faults only where the rest of the data says them.
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from foretune.audit.rows import chat_rows, row_finding
from foretune.audit.slots import slots_of
from foretune.audit.subject import Subject
from foretune.audit.wording import TOKEN, grams_of, shown
from foretune.records.audit import Finding

__all__ = ["reference_faults", "wrong_references"]

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STRUCTURED_FRACTION = 0.9
MIN_ROWS = 200
MAX_VALUES = 50  # of a slot whose cues are learnt
COPIED, OFTEN_COPIED = 0.98, 0.75  # of the answers that hold the value word by word
MIN_GRAM_ROWS, MIN_GRAM_INPUTS = 5, 4
PURITIES = (0.85, 0.7, 0.55, 0.0)
TIERS = ((0.3, 0.2), (0.1, 0.5), (0.0, 0.55))  # share of the answers with a cue, purity that it then needs
LEAST_RATIO = 8.0  # likelihood ratio, divided by half the rows of an input
BIG_FRACTION, BIG_PURITY = 0.002, 0.8
SURE, RARE, EXPECTED = 0.7, 0.15, 8.0
# E2E: precision .97 (test), .95 (dev) against the cleaned references, which a script made. By one reading, no panel,
# 53 of 60 flagged test rows are faults (2 vague), and 6 of 60 that only the script marks (4 more vague), 2026-11.
CERTAINTY = 0.88


class _Cue(NamedTuple):
    """An n-gram that says a slot: which answers have it, and the share of each value (0 = absent) among them."""

    gram: str
    rows: Flags
    shares: F64


def wrong_references(subject: Subject) -> list[Finding]:
    """DATA082: answers that leave out or contradict what their structured input says."""
    rows = [(row, slots_of(sample.input_text), sample.target) for row, sample in chat_rows(subject)]
    held = [item for item in rows if item[1]]
    if subject.task != "chat" or len(held) < MIN_ROWS or len(held) < STRUCTURED_FRACTION * len(rows):
        return []
    faults = reference_faults([slots for _, slots, _ in held], [target for _, _, target in held])
    hits = {held[index][0]: "; ".join(seen) for index, seen in faults.items()}
    fix = "correct the answers, or the inputs"
    title = "answers do not say what their inputs say"
    return row_finding(subject, 82, "warning", title, hits, fix=fix, certainty=CERTAINTY)


def reference_faults(inputs: Sequence[Mapping[str, str]], answers: Sequence[str]) -> dict[int, list[str]]:
    """For each faulty row what is wrong with its answer, by row number."""
    lowered = [answer.casefold() for answer in answers]
    rates = _copy_rates(inputs, lowered)
    copied = {slot for slot, rate in rates.items() if rate >= COPIED}
    faults: dict[int, list[str]] = {}
    for row, (slots, answer) in enumerate(zip(inputs, lowered, strict=True)):
        for slot in copied & slots.keys():
            if slots[slot].casefold() not in answer:
                faults.setdefault(row, []).append(f"{slot}[{slots[slot]}] is not in the answer")
    values = {slot: sorted({slots[slot] for slots in inputs if slot in slots}) for slot in rates.keys() - copied}
    values = {slot: names for slot, names in sorted(values.items()) if len(names) <= MAX_VALUES}
    if not values or len(inputs) < MIN_ROWS:
        return faults
    for slot, cues in _all_cues(_masked(inputs, lowered, copied), inputs, values, rates).items():
        for row, seen in _slot_faults(slot, cues, values[slot], inputs):
            faults.setdefault(row, []).append(seen)
    return dict(sorted(faults.items()))


def _copy_rates(inputs: Sequence[Mapping[str, str]], answers: Sequence[str]) -> dict[str, float]:
    """For each slot the share of answers, of those whose input has it, that hold its value word by word."""
    counts: dict[str, list[int]] = {}
    for slots, answer in zip(inputs, answers, strict=True):
        for slot, value in slots.items():
            both = counts.setdefault(slot, [0, 0])
            both[0] += value.casefold() in answer
            both[1] += 1
    return {slot: num_copied / num for slot, (num_copied, num) in sorted(counts.items())}


def _masked(inputs: Sequence[Mapping[str, str]], answers: Sequence[str], copied: set[str]) -> list[str]:
    """The answers with every value of a copied slot replaced by the slot's name: a name tells nothing of the others."""
    owners = {slots[slot].casefold(): slot for slots in inputs for slot in sorted(copied & slots.keys())}
    owners = {value: slot for value, slot in owners.items() if len(value) > 3}
    if not owners:
        return list(answers)
    pattern = re.compile("|".join(re.escape(value) for value in sorted(owners, key=len, reverse=True)))
    return [pattern.sub(lambda match: f" @{re.sub(r'[^a-z]', '', owners[match[0]])} ", answer) for answer in answers]


class _Evidence(NamedTuple):
    """What cues are chosen from: n-grams of the answers, and the value of each slot (one-hot, column 0 = absent)."""

    grams: npt.NDArray[np.str_]
    has: Any  # (rows, n-grams), sparse
    given: dict[str, F64]
    num_inputs: npt.NDArray[np.int64]  # different inputs that an n-gram stands with
    spread: float  # half the rows of an input: they are not independent


def _all_cues(
    answers: Sequence[str],
    inputs: Sequence[Mapping[str, str]],
    values: Mapping[str, list[str]],
    rates: Mapping[str, float],
) -> dict[str, list[_Cue]]:
    evidence = _evidence(answers, inputs, values)
    counts = {slot: np.asarray(evidence.has.T @ given, np.float64) for slot, given in evidence.given.items()}
    told = np.stack(
        [
            _likelihood_ratio(counts[s], given.sum(axis=0)) / _entropy(given.mean(axis=0))
            for s, given in evidence.given.items()
        ]
    )
    best = told.argmax(axis=0)
    result = {}
    for number, slot in enumerate(evidence.given):
        usable = (best == number) & (evidence.num_inputs >= MIN_GRAM_INPUTS)
        usable &= _may_say(evidence, counts[slot], evidence.given[slot], values[slot], rates[slot])
        result[slot] = _cues(evidence, counts[slot], evidence.given[slot], usable)
    return result


def _evidence(
    answers: Sequence[str], inputs: Sequence[Mapping[str, str]], values: Mapping[str, list[str]]
) -> _Evidence:
    numbers: dict[str, int] = {}
    rows, columns = [], []
    for row, answer in enumerate(answers):
        grams = grams_of(answer)
        rows += [row] * len(grams)
        columns += [numbers.setdefault(gram, len(numbers)) for gram in sorted(grams)]
    shape = (len(answers), len(numbers))
    has = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    kept = np.flatnonzero(np.bincount(has.indices, minlength=shape[1]) >= MIN_GRAM_ROWS)
    has = has[:, kept]
    keys: dict[tuple[tuple[str, str], ...], int] = {}
    groups = [keys.setdefault(tuple(sorted(slots.items())), len(keys)) for slots in inputs]
    groups_by_row = sparse.csr_matrix((np.ones(len(groups)), (groups, range(len(groups)))))
    num_inputs = np.asarray(((groups_by_row @ has) > 0).sum(axis=0)).ravel()
    given = {
        slot: np.eye(len(names) + 1)[[names.index(slots[slot]) + 1 if slot in slots else 0 for slots in inputs]]
        for slot, names in values.items()
    }
    spread = max(1.0, len(inputs) / len(keys) / 2)
    return _Evidence(np.array(list(numbers))[kept], has, given, num_inputs, spread)


def _may_say(evidence: _Evidence, counts: F64, given: F64, names: Sequence[str], rate: float) -> Flags:
    """Which n-grams may be cues: of slots with one value words of it; of often copied ones these, or big pure ones."""
    words = {word for name in names for word in TOKEN.findall(name.casefold())}
    parts = [set(gram.lstrip("+!").split()) for gram in evidence.grams.tolist()]
    if len(names) == 1:
        return np.array([part <= words for part in parts], bool)
    if rate < OFTEN_COPIED:
        return np.ones(len(parts), bool)
    num = counts.sum(axis=1)
    is_big = (_purity(_shares(counts), given.mean(axis=0)) >= BIG_PURITY) & (num >= BIG_FRACTION * len(given))
    flags: Flags = np.array([bool(part & words) for part in parts], bool) | is_big
    return flags


def _cues(evidence: _Evidence, counts: F64, given: F64, usable: Flags) -> list[_Cue]:
    """The cues of one slot, in the order in which they were chosen."""
    num_rows = len(given)
    base, num = given.mean(axis=0), counts.sum(axis=1)
    shares = _shares(counts)
    purity = _purity(shares, base)
    least = np.select([num / num_rows >= share for share, _ in TIERS], [needed for _, needed in TIERS])
    open_rows, usable = np.ones(num_rows, bool), usable.copy()
    columns = evidence.has.tocsc()
    found = []
    for pass_purity in PURITIES:
        needed = np.maximum(least, pass_purity)
        candidates = usable & (purity >= needed)
        while candidates.any() and open_rows.any():
            left = np.asarray(evidence.has[open_rows].T @ given[open_rows], np.float64)
            ratio = _likelihood_ratio(left, given[open_rows].sum(axis=0)) / evidence.spread
            ratio[~candidates | (_purity(_shares(left), base) < needed)] = 0
            chosen = int(ratio.argmax())
            if ratio[chosen] < LEAST_RATIO:
                break
            rows = np.asarray(columns[:, [chosen]].todense()).ravel() > 0
            found.append(_Cue(str(evidence.grams[chosen]), rows, shares[chosen]))
            candidates[chosen] = usable[chosen] = False
            open_rows &= ~rows
    return found


def _shares(counts: F64) -> F64:
    shares: F64 = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _purity(shares: F64, base: F64) -> F64:
    """How far an n-gram narrows the value: 0 = not at all, 1 = to values that it always goes with."""
    is_up = shares > base + 0.1 * (1 - base)
    is_up[:, 0] = False
    after, before = (shares * is_up).sum(axis=1), (is_up * base).sum(axis=1)
    purity: F64 = np.where(is_up.any(axis=1), (after - before) / np.maximum(1 - before, 1e-9), 0)
    return purity


def _likelihood_ratio(counts: F64, totals: F64) -> F64:
    """Dunning's G2 of each n-gram (rows) against the values (columns)."""
    num_with = counts.sum(axis=1, keepdims=True)
    num = totals.sum()
    result = np.zeros(len(counts))
    for part, size in ((counts, num_with), (totals - counts, num - num_with)):
        expected = np.maximum(size * totals / num, 1e-12)
        result += 2 * (part * np.log(np.maximum(part, 1e-12) / expected)).sum(axis=1)
    return result


def _entropy(shares: F64) -> float:
    held = shares[shares > 0]
    return max(float(-(held * np.log(held)).sum()), 1e-9)


def _slot_faults(
    slot: str, cues: Sequence[_Cue], names: Sequence[str], inputs: Sequence[Mapping[str, str]]
) -> list[tuple[int, str]]:
    """Rows whose answer leaves a slot out, or says another value."""
    given = np.array([names.index(slots[slot]) + 1 if slot in slots else 0 for slots in inputs])
    base = np.bincount(given, minlength=len(names) + 1) / len(given)
    faults: dict[int, str] = {}
    is_said = np.zeros(len(given), bool)
    for cue in cues:
        is_said |= cue.rows
        value = int(cue.shares.argmax())
        if value == 0 or cue.shares[value] < SURE:
            continue
        num = int(cue.rows.sum())
        is_other = (cue.shares < RARE * base) & (num * base >= EXPECTED)
        for row in np.flatnonzero(cue.rows & is_other[given]).tolist():
            said = f"the answer says {shown(cue.gram)!r}, as for {slot}[{names[value - 1]}]"
            faults.setdefault(
                row,
                f"{slot}[{inputs[row][slot]}], but {said}"
                if slot in inputs[row]
                else f"{slot} is not given, but {said}",
            )
    if cues:
        for row in np.flatnonzero((given > 0) & ~is_said).tolist():
            faults.setdefault(row, f"{slot}[{inputs[row][slot]}] is not said")
    return sorted(faults.items())
