"""Training on token shards: rows read when they are asked for, a run resumed exactly, refusals."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from foretune import api
from foretune.data.token_shards import ShardIndex
from foretune.errors import ConfigError
from foretune.records.training import TrainingRecord

TEXT = "\n\n".join(f"The number {i} comes before the number {i + 1}, and after {i - 1}." for i in range(400))


def _job(folder: Path, **train: object) -> Path:
    (folder / "corpus.txt").write_text(TEXT, encoding="utf-8")
    if not ShardIndex.exists(folder / "tokens"):
        from foretune.data.token_shards import write_shards
        from foretune.data.tokenizer import Tokenizer
        from foretune.models.base import resolve_base

        write_shards(TEXT.split("\n\n"), Tokenizer.from_folder(resolve_base("pebble", folder)), folder / "tokens")
    settings = {"method": "pretrain", "max_seq_len": 64, "global_batch_size": 4} | train
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in settings.items()]
    (folder / "job.toml").write_text(
        'name = "shards"\nbase = "pebble"\n[data]\npath = "tokens"\ntask = "text"\n[train]\n'
        + "\n".join(lines)
        + "\n[train.advanced]\nmax_steps = 4\neval_every = 2\n",
        encoding="utf-8",
    )
    return folder / "job.toml"


def test_a_run_on_shards(tmp_path):
    outcome = api.train(_job(tmp_path), runs_dir=tmp_path / "runs", foreground=True)
    record = TrainingRecord.read(outcome.run_dir)
    assert record.planned_steps == len(record.train_curve) == 4
    assert record.eval_curve[-1].loss < record.eval_curve[0].loss


def test_methods_that_need_samples_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="classify needs"):
        api.train(_job(tmp_path, method="classify"), runs_dir=tmp_path / "runs", foreground=True)
