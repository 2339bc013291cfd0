"""`foretune train`: which words of the command line are the job file and which belong to the sweep."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from foretune.cli.train import _job_and_sweep
from foretune.errors import ConfigError


@pytest.mark.req("R249")
@pytest.mark.parametrize("words", [["job.toml", "rank=8,16", "epochs=1,2"], ["rank=8,16", "job.toml", "epochs=1,2"]])
def test_words_after_sweep_are_part_of_it(words: list[str]) -> None:
    assert _job_and_sweep(words, ["lr=1e-4,2e-4"]) == (Path("job.toml"), ["lr=1e-4,2e-4", "rank=8,16", "epochs=1,2"])


def test_without_a_sweep_there_is_one_word(tmp_path: Path) -> None:
    strange = tmp_path / "a=b.toml"
    strange.write_text("")
    assert _job_and_sweep([str(strange)], None) == (strange, None)
    assert _job_and_sweep([str(strange), "rank=8,16"], ["lr=1,2"])[0] == strange
    with pytest.raises(ConfigError, match=r"got the words job\.toml, rank=8") as caught:
        _job_and_sweep(["job.toml", "rank=8"], None)
    assert "--set train.rank=8" in caught.value.fix
    with pytest.raises(ConfigError, match="got none"):
        _job_and_sweep(["rank=8,16"], ["lr=1,2"])
