"""A patch changes the lines of its settings and nothing else of the job file."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from typing import Any

import pytest

from foretune.diagnose import apply_patch
from foretune.errors import ConfigError


def tree_with(text: str, patch: dict[str, Any]) -> dict[str, Any]:
    """What the file must hold afterwards."""
    tree = tomllib.loads(text)
    for name, value in patch.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def test_only_the_patched_lines_change(job_text: str) -> None:
    patch = {"train.epochs": 1.5, "train.rank": 8, "train.advanced.dropout": 0.1}
    changed = apply_patch(job_text, patch)
    before, after = job_text.splitlines(), changed.splitlines()
    assert [line for line in after if line not in before] == [
        "epochs = 1.5         # passes",
        "rank = 8",
        "dropout = 0.1     # LoRA",
    ]
    assert len(before) == len(after)
    assert tomllib.loads(changed) == tree_with(job_text, patch)


def test_new_settings_go_into_their_tables(job_text: str) -> None:
    patch = {
        "train.learning_rate": 2e-5,
        "train.advanced.weight_decay": 0.1,
        "evaluate.advanced.margin": 0.05,
        "seed": 3,
    }
    changed = apply_patch(job_text, patch)
    assert tomllib.loads(changed) == tree_with(job_text, patch)
    assert set(job_text.splitlines()) <= set(changed.splitlines())
    assert "learning_rate = 2e-5" in changed and changed.rstrip().endswith("[evaluate.advanced]\nmargin = 0.05")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n# only a comment\n",
        "[train]\nadvanced = { dropout = 0.05, patience = 2 } # inline\n",
        "[train]\nadvanced.dropout = 0.05\nadvanced.patience = 2\nrank = 4\n",
        "train.rank = 4\ntrain.advanced.dropout = 0.05\n",
        "train = { rank = 4, advanced = { dropout = 0.0 } }\n",
        '[train.advanced]\ntarget_modules = [ # all\n  "q_proj",\n  "v_proj", # two\n]\n[evaluate]\nfew_shot = [5]\n',
        '[data]\nsystem = """\n[train]\nrank = 3 # not it\n"""\npath = "a#b.jsonl" # real\n\n[train]\nrank = 2\n',
        "[ train ]\r\nrank=4\r\n",
        '["train"]\n"rank" = 4\n',
        "[train]\nrank = 4",
    ],
)
def test_every_way_of_writing_a_job_survives_the_round_trip(text: str) -> None:
    patch = {
        "train.rank": 8,
        "train.learning_rate": 1e-4,
        "train.advanced.dropout": 0.1,
        "train.advanced.precision": "fp32",
        "train.advanced.target_modules": ["all-linear"],
        "name": 'a"b',
    }
    changed = apply_patch(text, patch)
    assert tomllib.loads(changed) == tree_with(text, patch)
    assert tomllib.loads(apply_patch(changed, {})) == tree_with(text, patch)
    for comment in ("# only a comment", "# inline", "# not it", "# real"):
        assert (comment in text) == (comment in changed)


def test_an_empty_patch_keeps_the_text(job_text: str) -> None:
    assert apply_patch(job_text, {}) == job_text
    assert apply_patch("", {}) == ""


def test_unknown_settings_and_broken_files_are_refused(job_text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_patch(job_text, {"train.learning_rte": 1})
    assert "train.learning_rate" in caught.value.fix
    with pytest.raises(ConfigError):
        apply_patch("[train\n", {"train.rank": 8})
