"""General skills before and after training: what is probed, in what order, and which losses are flagged."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from foretune.data.tokenizer import Tokenizer
from foretune.data.world.skills import SKILLS, probe
from foretune.engine.chat import ChatEngine
from foretune.evaluate.skills import compare_skills, forgotten, general_scores, is_pebble
from foretune.models.base import resolve_base

Run = Any  # the fake run of conftest.py


def known_answers(skills: tuple[str, ...]) -> dict[str, str]:
    """Last question and its answer, for the probes of some skills."""
    return {s.messages[-1]["content"]: s.target for skill in skills for s in probe(skill, 6)}


def last_question(prompt: str) -> str:
    return prompt.rpartition("<|user|>")[2].partition("<|end|>")[0]


@pytest.mark.req("R283")
def test_lost_skills_are_measured_and_flagged(fake_run: Run) -> None:
    fake_run.settings["evaluate"]["advanced"]["probe_samples"] = 12
    everything = {s.messages[-1]["content"]: s.target for skill in SKILLS for s in probe(skill, 12)}
    lost = {s.messages[-1]["content"] for s in probe("arithmetic", 12)}
    colour = fake_run.tuned.answer

    def answer(prompt: str) -> str:
        return colour(prompt) if "of thing " in prompt else everything[last_question(prompt)]

    fake_run.base.answer = answer
    fake_run.tuned.answer = lambda prompt: "seven" if last_question(prompt) in lost else answer(prompt)
    fake_run.write_questions()
    record = fake_run.evaluate()
    scores = {skill.skill: skill for skill in record.general_skills}
    assert set(scores) == set(SKILLS)
    assert (scores["arithmetic"].before, scores["arithmetic"].after) == (1.0, 0.0)
    assert scores["arithmetic"].ci_high < 0 and scores["arithmetic"].n == 12
    assert scores["copy"].ci_low < 0 < scores["copy"].ci_high
    assert any(warning.endswith("lost general skills: arithmetic") for warning in record.warnings)


def test_answers_belong_to_their_questions(fake_run: Run) -> None:
    known = known_answers(("copy", "json"))
    fake_run.base.answer = lambda prompt: known.get(last_question(prompt), "no")
    scores = general_scores(ChatEngine(fake_run.base), knows_skills=True, num_samples=6, batch_size=4)
    assert [sum(scores[skill]) for skill in ("copy", "json", "order", "pick")] == [6, 6, 0, 0]
    assert all(len(values) == 6 for values in scores.values())


def test_examples_precede_skills_that_only_examples_explain(fake_run: Run) -> None:
    fake_run.base.answer = lambda prompt: "no"
    general_scores(ChatEngine(fake_run.base), knows_skills=True, num_samples=3, batch_size=4)
    asked = {s.messages[-1]["content"] for s in probe("induction", 3)}
    shown = [prompt.count("<|assistant|>") - 1 for prompt in fake_run.base.prompts if last_question(prompt) in asked]
    assert len(shown) == 3 and min(shown) >= 2


@pytest.mark.req("R283")
def test_other_models_are_probed_by_texts_choices_and_forms(
    fake_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(resolve_base("pebble"), other)
    config = json.loads((other / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] += "{# another model #}"
    (other / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    fake_run.settings |= {"base": str(other)}
    fake_run.settings["evaluate"]["advanced"]["probe_samples"] = 1
    fake_run.settings["data"] = {"languages": ["de"]}
    right = {id(fake_run.base): [1.0] * 40, id(fake_run.tuned): [1.0, 0.0] * 20}
    monkeypatch.setattr("foretune.evaluate.skills.choice_scores", lambda engine: right[id(engine)])
    fake_run.tuned.bits = lambda text: 2.5 + len(text) % 3 / 10
    fake_run.write_questions()
    record = fake_run.evaluate()
    skills = {skill.skill: skill for skill in record.general_skills}
    assert set(skills) == {"general_text", "text_en", "text_de", "choices"}  # the base follows no form at all
    assert (skills["choices"].before, skills["choices"].after) == (1.0, 0.5)
    text = skills["general_text"]
    assert (text.skill, text.metric, text.before) == ("general_text", "bits_per_byte", 2.0)
    assert text.n > 50 and 0.5 < text.ci_low < text.after - 2.0 < text.ci_high
    assert any("lost general skills: general_text, text_en" in warning for warning in record.warnings)


def test_pebble_is_known_by_its_tokenizer(tmp_path: Path) -> None:
    copied = shutil.copytree(resolve_base("pebble"), tmp_path / "mine")
    assert is_pebble(str(copied), Tokenizer.from_folder(copied))
    assert not is_pebble("other", Tokenizer.from_folder(copied).with_template("{{ messages }}"))


def test_one_skill_of_many_must_fall_far_to_be_flagged() -> None:
    before = {skill: [1.0] * 40 for skill in SKILLS}
    after = {**before, "copy": [0.0] * 4 + [1.0] * 36}
    (copy,) = [skill for skill in compare_skills(before, after) if skill.skill == "copy"]
    assert copy.after == 0.9 and forgotten(before, after) == []
    assert forgotten(before, {**before, "copy": [0.0] * 15 + [1.0] * 25}) == ["copy"]
    assert forgotten({"copy": [0.0] * 40}, {"copy": [1.0] * 40}) == []
