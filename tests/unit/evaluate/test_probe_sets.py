"""Probe sets for any model: what they hold, and that they tell a model that knows from one that does not."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foretune.data.languages import language_of
from foretune.data.world.skills import SKILLS
from foretune.engine.engine import Engine, load_engine
from foretune.evaluate.probe_sets import (
    choice_scores,
    choices,
    format_samples,
    probe_languages,
    probe_texts,
    skill_language,
)
from foretune.evaluate.skills import compare_skills
from tiny import tiny_model


def test_every_language_has_ten_texts_in_it() -> None:
    for code, texts in probe_texts().items():
        assert len(set(texts)) == 10, code
        assert language_of(" ".join(texts)) == code
        assert all(20 <= len(text) <= 160 for text in texts), code


def test_choices_have_one_right_end() -> None:
    for choice in choices():
        assert len({choice.right, *choice.wrong}) == 4, choice
        assert choice.begin == choice.begin.strip()
    assert len({choice.begin for choice in choices()}) == 40


def test_declared_languages_are_probed_where_there_are_texts() -> None:
    """English always, each once, by family; unknown ones not."""
    assert probe_languages(()) == ("en",)
    assert probe_languages(("de-AT", "en", "xx", "de", "ja")) == ("en", "de", "ja")


def test_skills_have_a_language() -> None:
    assert [skill_language(name) for name in ("text_de", "second_language", "choices", "copy")] == [
        "de",
        "es",
        "en",
        "en",
    ]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(tiny_model(tmp_path_factory.mktemp("tiny")))


def test_a_model_that_prefers_the_right_ends_gets_all_choices(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preferring a wrong end gets none, and a random model about a quarter."""
    good: bool = True

    def losses(engine: Engine, rows: list[object]) -> list[np.ndarray]:
        """Every fourth row is a right end."""
        ends = [end for choice in choices() for end in (choice.right, *choice.wrong)]
        return [np.array([0.1 if (at % 4 == 0) == good else 3.0]) for at in range(len(ends))]

    random = choice_scores(engine)
    assert len(random) == 40 and 0 <= sum(random) <= 24
    monkeypatch.setattr("foretune.engine.losses.losses_of", losses)
    assert sum(choice_scores(engine)) == 40
    good = False
    assert sum(choice_scores(engine)) == 0


def test_a_real_language_model_knows_more_than_chance() -> None:
    """A model of 105 M parameters; chance is one in four."""
    folder = Path(__file__).parents[4] / "shared" / "data" / "models" / "babyllama105"
    if not (folder / "config.json").is_file():
        pytest.skip(f"no model in {folder}")
    scores = choice_scores(load_engine(folder))
    assert sum(scores) >= 16


def test_forms_that_the_base_never_followed_cannot_be_lost() -> None:
    before = {"format_copy": [0.0] * 5, "format_json": [1.0, 0.0] * 3, "copy": [0.0] * 5}
    after = {"format_copy": [0.0] * 5, "format_json": [0.0] * 6, "copy": [0.0] * 5}
    assert [skill.skill for skill in compare_skills(before, after)] == ["format_json", "copy"]


def test_instructions_of_a_form_are_known_tasks() -> None:
    samples = format_samples(500)
    assert len(samples) == 100 and {one.skill.removeprefix("format_") for one in samples} <= set(SKILLS)
    assert all(json.loads(one.target) for one in samples if one.skill == "format_json")
