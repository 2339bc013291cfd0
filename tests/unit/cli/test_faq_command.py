"""`foretune faq` and the clouds of `foretune doctor`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foretune.plan.faq import read_faq

Cli = Any  # the fixture of conftest.py


def test_every_question(cli: Cli) -> None:
    found = cli("faq", "--json").document
    assert list(found["topics"]) == [entry.id for entry in read_faq()] and found["next"] == "foretune faq necessary"
    assert "How long does fine-tuning take?" in cli("faq").out


def test_one_answer_with_sources_and_a_command(cli: Cli) -> None:
    found = cli("faq", "can", "I", "open", "source", "it", "--json").document
    assert found["topic"] == "open-source" and found["sources"] and found["date"] and found["see"] == found["next"]
    shown = cli("faq", "serving").out
    assert "Next: foretune plan --questions" in shown and all(len(line) <= 80 for line in shown.splitlines())


def test_a_typo(cli: Cli) -> None:
    result = cli("faq", "lnog")
    assert result.code == 4 and "did you mean `long`?" in result.err and "foretune faq long" in result.err


@pytest.mark.req("R209")
def test_the_doctor_without_a_gpu_names_dated_clouds(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretune.cli import doctor

    monkeypatch.setattr(doctor, "checks", lambda runs_dir, network=False: [])
    monkeypatch.setattr(doctor, "_has_gpu", lambda: False)
    clouds = cli("doctor", "--json").document["clouds"]
    rented = [row for row in clouds if row["kind"] == "rented"]
    assert [row["usd_per_hour"] for row in rented] == sorted(row["usd_per_hour"] for row in rented)
    assert all(row["date"].startswith("20") for row in clouds) and any(row["kind"] == "hosted" for row in clouds)
    shown = cli("doctor").out
    assert "no GPU here: rent" in shown and "RunPod" in shown and "a provider that trains for you" in shown
    monkeypatch.setattr(doctor, "_has_gpu", lambda: True)
    assert cli("doctor", "--json").document["clouds"] == [] and "rent" not in cli("doctor").out
