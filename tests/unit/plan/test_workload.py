"""Real lengths as a histogram: what padding, grouping by length and packing make of them."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest

from foretune.plan.answer import answer, requested_setup
from foretune.plan.gpu_time import throughput
from foretune.plan.gpu_work import computed_tokens, mean_row_tokens
from foretune.plan.request import plan_request
from foretune.plan.setup import Setup
from foretune.plan.workload import MOST_BINS, histogram, mean_length, padded_length


def drawn(number: int, seed: int = 1) -> list[int]:
    """Lengths like those of instruction data."""
    source = random.Random(seed)
    return [max(8, min(4_000, round(source.lognormvariate(5.0, 0.8)))) for _ in range(number)]


def test_few_lengths_are_kept_as_they_are() -> None:
    assert histogram([5, 3, 5, 9]) == ((3, 1), (5, 2), (9, 1))


def test_many_lengths_keep_rows_tokens_and_the_longest() -> None:
    lengths = drawn(20_000)
    bins = histogram(lengths)
    assert len(bins) <= MOST_BINS + 1
    assert sum(count for _, count in bins) == len(lengths)
    assert mean_length(bins, 10_000) == pytest.approx(statistics.fmean(lengths), rel=0.005)
    assert bins[-1][0] == max(lengths)


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16])
def test_padding_is_what_random_batches_of_the_rows_have(rows: int) -> None:
    lengths = drawn(8_000)
    source = random.Random(7)
    simulated = statistics.fmean(max(source.choices(lengths, k=rows)) for _ in range(20_000))
    assert padded_length(histogram(lengths), rows, 10_000) == pytest.approx(simulated, rel=0.03)


def test_grouping_by_length_pads_little() -> None:
    lengths = drawn(8_000)
    bins, mean = histogram(lengths), statistics.fmean(lengths)
    grouped = padded_length(bins, 8, 10_000, is_grouped=True)
    assert mean <= grouped < 1.25 * mean < padded_length(bins, 8, 10_000) / 1.5
    source, simulated = random.Random(3), []
    for _ in range(200):  # sorted stretches of fifty batches, as the HF Trainer cuts them
        stretch = sorted(source.choices(lengths, k=400))
        simulated += [max(stretch[start : start + 8]) for start in range(0, 400, 8)]
    assert grouped == pytest.approx(statistics.fmean(simulated), rel=0.05)


def test_rows_are_cut_at_the_limit() -> None:
    assert mean_length(((10, 1), (1_000, 1)), 100) == 55
    assert padded_length(((10, 1), (1_000, 1)), 2, 100) == pytest.approx(0.25 * 10 + 0.75 * 100)


def with_data(tmp_path: Path, characters: list[int], **values: object) -> Setup:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "x" * (number // 2), "completion": "y" * (number - number // 2)} for number in characters]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    request = plan_request(base="llama-2-7b", gpu="A100-80", micro_batch_size=4, max_seq_len=1024, **values)
    return requested_setup(request, data=path)[0]


def test_two_files_of_one_mean_take_different_times(tmp_path: Path) -> None:
    even = with_data(tmp_path, [800] * 400)
    skewed = with_data(tmp_path, [80] * 320 + [3_680] * 80)
    assert mean_row_tokens(even) == pytest.approx(mean_row_tokens(skewed), rel=0.02)
    assert computed_tokens(even) < 0.5 * computed_tokens(skewed)
    quick, slow = throughput(even), throughput(skewed)
    assert quick.train_hours is not None and slow.train_hours is not None
    assert slow.train_hours.expected > 1.5 * quick.train_hours.expected


def test_packing_takes_the_skew_away(tmp_path: Path) -> None:
    padded = throughput(with_data(tmp_path, [80] * 320 + [3_680] * 80))
    packed = throughput(with_data(tmp_path, [80] * 320 + [3_680] * 80, packing=True))
    assert padded.train_hours is not None and packed.train_hours is not None
    assert packed.train_hours.expected < 0.7 * padded.train_hours.expected


def test_the_answer_says_that_real_lengths_count(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a question", "completion": "an answer"}\n' * 50, encoding="utf-8")
    found = answer(plan_request(base="llama-2-7b", gpu="A100-80"), data=path)
    assert "real lengths of 50 rows, padded to the longest of their batch" in found.assumptions
