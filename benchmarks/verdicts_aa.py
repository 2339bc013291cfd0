"""The verdict on real answers of pebble: against itself, and against itself with a known share of answers spoilt.

A part of `python benchmarks/run.py verdicts`, alone with `--aa`. Every item is asked several times, each time behind
other examples drawn at random, so that any two columns of scores are of one and the same system.
"""

# SPDX-License-Identifier: Apache-2.0
#
# Shapes: I items, R repeats.
from __future__ import annotations

import math
from typing import Any

import numpy as np

from foretune.data.samples import Message
from foretune.data.world.skills import SKILLS, ProbeSample, probe
from foretune.engine.chat import ChatEngine
from foretune.evaluate.scorers.text import exact_match
from foretune.models.base import resolve_base
from foretune.stats.paired import compare_paired
from foretune.stats.paired_binary import McNemar
from foretune.stats.verdict import verdict

__all__ = ["aa"]

Row = dict[str, Any]
NUM_ITEMS, REPEATS, SHOTS = 60, 3, 2
NUM_SKILLS = 5
SEEDS = 400  # pairings of each skill; 40 of them are what the design asks for
SPOILT = (0.05, 0.1, 0.2)
WANTED = (0.15, 0.97)  # accuracy of a skill that is worth comparing


def aa() -> list[Row]:
    """False *better* of pebble against itself; found losses beside the power that was foretold."""
    tables = _tables()
    rows = [_against_itself(name, scores_IR) for name, scores_IR in tables.items()]
    num = sum(row["reps"] for row in rows)
    total = {
        name: round(sum(row[name] * row["reps"] for row in rows) / num, 2) for name in rows[0] if "percent" in name
    }
    rows.append({"case": "pebble against itself, all skills", "reps": num, **total})
    every_IR = np.concatenate(list(tables.values()))
    return [*rows, *(_spoilt(every_IR, share) for share in SPOILT)]


def _tables() -> dict[str, np.ndarray]:
    """(I, R) exact match of skills that pebble neither lacks nor masters."""
    from foretune.engine.engine import load_engine

    chat = ChatEngine(load_engine(resolve_base("pebble")), max_seq_len=512)
    found: dict[str, np.ndarray] = {}
    for number, skill in enumerate(SKILLS):
        rng = np.random.default_rng(number)
        pool, items = probe(skill, 200, 1), probe(skill, NUM_ITEMS, 2)
        first = _scores(chat, items, pool, rng)
        if WANTED[0] <= first.mean() <= WANTED[1]:
            more = [_scores(chat, items, pool, rng) for _ in range(REPEATS - 1)]
            found[skill] = np.stack([first, *more], axis=1)
        if len(found) == NUM_SKILLS:
            break
    return found


def _scores(
    chat: ChatEngine, items: list[ProbeSample], pool: list[ProbeSample], rng: np.random.Generator
) -> np.ndarray:
    prompts = []
    for item in items:
        shots = [pool[place] for place in rng.choice(len(pool), SHOTS, replace=False)]
        turns = [turn for shot in shots for turn in (*_turns(shot), Message("assistant", shot.target))]
        prompts.append(chat.prompt_ids([*turns, *_turns(item)]))
    longest = max(len(chat.engine.tokenizer.encode(item.target)) for item in items) + 2
    replies = chat.replies(prompts, max_new_tokens=longest, batch_size=32)
    return np.array([exact_match(reply.text, item.target) for reply, item in zip(replies, items, strict=True)])


def _turns(sample: ProbeSample) -> list[Message]:
    return [Message.from_json(turn) for turn in sample.messages]


def _against_itself(name: str, scores_IR: np.ndarray) -> Row:
    rng = np.random.default_rng(5)
    better = different = 0
    for _ in range(SEEDS):
        order_IR = rng.permuted(scores_IR, axis=1)
        result = compare_paired(order_IR[:, 0], order_IR[:, 1])
        better += verdict(result).value == "better"
        different += result.ci_low > 0 or result.ci_high < 0
    apart = float((scores_IR[:, 0] != scores_IR[:, 1]).mean())
    return {
        "case": f"pebble against itself: {name}, accuracy {scores_IR.mean():.2f}, {apart:.0%} differ",
        "reps": SEEDS,
        "better_percent": round(100 * better / SEEDS, 2),
        "different_percent": round(100 * different / SEEDS, 2),
    }


def _spoilt(scores_IR: np.ndarray, share: float, n: int = 100) -> Row:
    """A share of the answers replaced by nothing: how often that is called worse, and how often it should be."""
    rng = np.random.default_rng([7, int(100 * share)])
    reps, found = 2 * SEEDS, 0
    for _ in range(reps):
        drawn = rng.integers(0, len(scores_IR), n)
        before = scores_IR[drawn, rng.integers(0, scores_IR.shape[1], n)]
        after = np.where(rng.random(n) < share, 0.0, before)
        found += verdict(compare_paired(before, after)).value == "worse"
    return {
        "case": f"{share:.0%} of the answers spoilt, n={n}",
        "reps": reps,
        "worse_percent": round(100 * found / reps, 2),
        "foretold_percent": round(100 * _foretold(n, share * float(scores_IR.mean())), 2),
    }


def _foretold(n: int, lost_share: float) -> float:
    """Power where every changed answer is a loss: the binomial chance of enough losses to be significant."""
    enough = next(lost for lost in range(n + 1) if lost and McNemar(lost, 0, n).p_value <= 0.05)
    return sum(math.comb(n, k) * lost_share**k * (1 - lost_share) ** (n - k) for k in range(enough, n + 1))
