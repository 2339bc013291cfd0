"""Outdated terms: the user's list, read from TOML or text, flags rows and says what to write instead."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from foretune.audit.checks.terms import Term, outdated_terms, read_terms
from foretune.data.samples import Message, Sample
from foretune.errors import ConfigError, NotFound
from planting import chats, subject_of


@pytest.mark.req("R140")
def test_terms_flag_rows_and_name_the_new_word() -> None:
    rows = chats(
        ["Open Twitter now", "twitterati meet", "the old  name", "v1 API and v1.2"], ["a", "b", "c", "Twitter?"]
    )
    terms = [Term("twitter", use="X"), Term("old name"), Term(regex=r"\bv1\b(?!\.)")]
    (finding,) = outdated_terms(subject_of(rows), terms)
    assert (finding.id, finding.places) == ("DATA056", ("d:0", "d:2", "d:3"))
    assert finding.evidence[0] == "Open Twitter now (now: X)"
    assert outdated_terms(subject_of(rows), []) == []


@pytest.mark.req("R140")
def test_rows_of_a_later_date_may_use_the_term() -> None:
    messages = (Message("user", "Who runs Twitter?"), Message("assistant", "Ann."))
    rows = [
        Sample(str(n), messages, place=f"d:{n}", meta=meta)
        for n, meta in enumerate([{}, {"date": "2022-01-01"}, {"date": "2024-01-01"}])
    ]
    (finding,) = outdated_terms(subject_of(rows), [Term("twitter", since=date(2023, 7, 24))])
    assert finding.places == ("d:0", "d:1")
    assert outdated_terms(subject_of(rows), [Term("twitter", where="answer")]) == []


def test_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# names\nTwitter => X\n\nold name\n")
    assert read_terms(tmp_path / "a.txt") == [Term("Twitter", use="X"), Term("old name")]
    (tmp_path / "a.toml").write_text('[[term]]\nregex = "v1"\nuse = "v2"\nsince = 2025-01-31\nwhere = "answer"\n')
    assert read_terms(tmp_path / "a.toml") == [Term(regex="v1", use="v2", since=date(2025, 1, 31), where="answer")]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('[[term]]\nregex = "("', "does not compile"),
        ('[[term]]\nuse = "x"', "either text or regex"),
        ('[[term]]\ntext = "x"\nold = "y"', "unknown field 'old'"),
        ('[[term]]\ntext = "x"\nsince = "soon"', "is no date"),
        ('[[term]]\ntext = "x"\nwhere = "here"', "where = 'here'"),
        ("[[term", "not valid TOML"),
        ('term = "x"', "no list of tables"),
    ],
)
def test_a_bad_list_is_one_clear_line(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(ConfigError, match=what):
        read_terms(tmp_path / "a.toml")


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_terms(tmp_path / "none.toml")
