"""The probe set: every skill answers, prompts end with a user turn, seeds are apart from the corpus."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from foretune.data.world import corpus, skills
from foretune.errors import ConfigError


@pytest.mark.parametrize("skill", skills.SKILLS)
@pytest.mark.parametrize("num_shots", [0, 4])
def test_prompts_end_with_a_user_turn_and_hold_the_shots(skill: str, num_shots: int) -> None:
    for sample in skills.probe(skill, 40, seed=1, num_shots=num_shots):
        answers = sum(m["role"] == "assistant" for m in sample.messages)
        assert sample.messages[-1]["role"] == "user"
        assert sample.target and sample.skill == skill
        assert 2 <= answers <= 5 if skill in skills.UNTOLD_SKILLS else min(2, num_shots) <= answers <= num_shots


def test_probe_is_seeded() -> None:
    assert skills.probe("json", 10, seed=3) == skills.probe("json", 20, seed=3)[:10]
    assert skills.probe("json", 10, seed=3) != skills.probe("json", 10, seed=4)


@pytest.mark.parametrize("skill", ["lookup", "json", "summarise", "order", "pick"])
def test_probe_prompts_do_not_stand_in_the_corpus(skill: str) -> None:
    trained = {d.messages[-2]["content"] for d in corpus.documents(0, 10_000) if d.messages}
    seen = sum(sample.messages[-1]["content"] in trained for sample in skills.probe(skill, 100, seed=0))
    assert seen <= 2


def test_unknown_skill_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected one of copy, rewrite"):
        skills.probe("dance", 1)


def test_general_text_is_plain_seeded_and_new() -> None:
    texts = skills.general_text(50, seed=2)
    assert len(texts) == 50 and texts[:10] == skills.general_text(10, seed=2)
    trained = {d.text for d in corpus.documents(2, 5000)}
    assert sum(text in trained for text in texts) <= 1
