"""Cleaning: new versions from logged steps; the old ones stay, and the same recipe makes the same version."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from foretune.data.clean.clean import STEPS, CleanRecord, clean, lineage_of
from foretune.data.clean.recipe import Recipe, Step, read_recipe, recipe_from_findings, recipe_toml, write_recipe
from foretune.data.provenance import with_provenance
from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.audit import Finding
from foretune.records.dataset import Provenance


def row(number: int, answer: str = "a fine answer", question: str = "", **meta: object) -> Sample:
    asked = question or f"question {number}"
    return Sample(f"r{number}", (Message("user", asked), Message("assistant", answer)), meta=dict(meta))


def stored(tmp_path: Path, train: list[Sample]) -> tuple[DatasetStore, str]:
    store = DatasetStore(tmp_path)
    return store, store.save(Splits(train, [row(900, "v ")], [row(901, "t  ")]))


def run(tmp_path: Path, train: list[Sample], *steps: Step, seed: int = 0) -> tuple[CleanRecord, list[Sample]]:
    store, version = stored(tmp_path, train)
    record = clean(store, version, Recipe(seed=seed, steps=steps))
    assert store.load(version, "train") == train
    return record, store.load(record.version, "train")


@pytest.mark.req("R151")
def test_same_recipe_on_same_version_is_the_same_version_and_all_is_logged(tmp_path: Path) -> None:
    rows = [row(n, rating=n % 5, question=f"How do I change the address of order {n}?") for n in range(40)]
    steps = (Step(do="drop_bottom", params={"fraction": 0.1}), Step(do="augment", params={"share": 0.5}))
    first, train = run(tmp_path, rows, *steps)
    second, _ = run(tmp_path, rows, *steps)
    assert first == second
    assert [(e.do, e.num_before, e.num_after) for e in first.log] == [("drop_bottom", 40, 36), ("augment", 36, 54)]
    assert len(first.log[0].dropped) == 4
    assert first.log[1].added == tuple(s.id for s in train[36:])
    other = clean(DatasetStore(tmp_path), first.parents[0], Recipe(seed=1, steps=steps))
    assert other.version != first.version
    assert "drop_bottom (train): 40 -> 36 rows, 4 dropped" in first.summary


def test_lineage_names_the_parents_and_every_way(tmp_path: Path) -> None:
    store, version = stored(tmp_path, [row(n) for n in range(6)])
    one = clean(store, version, Recipe(steps=(Step(do="drop_ids", params={"ids": ["r0"]}),)), run_dir=tmp_path / "run")
    clean(store, version, Recipe(steps=(Step(do="drop_matching", params={"pattern": "question 0", "part": "input"}),)))
    lineage = lineage_of(store, one.version)
    assert [entry.parents for entry in lineage.made_by] == [(version,), (version,)]
    assert CleanRecord.read(tmp_path / "run") == one
    assert lineage_of(store, version).made_by == ()
    clean(store, version, one.recipe)
    assert len(lineage_of(store, one.version).made_by) == 2


@pytest.mark.req("R146", "R134")
def test_a_rejected_row_leaves_the_next_version_and_stays_in_history(tmp_path: Path) -> None:
    record, train = run(tmp_path, [row(n) for n in range(5)], Step(do="drop_ids", params={"ids": ["r3"]}, why="rude"))
    assert [sample.id for sample in train] == ["r0", "r1", "r2", "r4"]
    assert (record.log[0].dropped, record.log[0].why) == (("r3",), "rude")


@pytest.mark.req("R147")
@pytest.mark.parametrize(("num", "gone"), [(10, 1), (19, 1), (20, 2), (9, 0), (1000, 100)])
def test_bottom_tenth_by_rating_is_exactly_a_floor(tmp_path: Path, num: int, gone: int) -> None:
    rows = [row(n, rating=(n * 7) % 13) for n in range(num)]
    record, train = run(tmp_path, rows, Step(do="drop_bottom"))
    assert len(record.log[0].dropped) == gone
    ratings = {sample.id: sample.meta["rating"] for sample in rows}
    assert max((ratings[i] for i in record.log[0].dropped), default=-1) <= min(s.meta["rating"] for s in train)


def test_unrated_rows_are_not_taken_for_bad(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 2 rows have no number in the field 'rating'"):
        run(tmp_path, [row(1, rating="4.5"), row(2)], Step(do="drop_bottom"))


@pytest.mark.req("R150")
def test_good_style_with_mediocre_content_goes(tmp_path: Path) -> None:
    rows = [row(1, style=5, content=3), row(2, style=5, content=4), row(3, style=3, content=1), row(4)]
    assert [s.id for s in run(tmp_path, rows, Step(do="drop_stylish"))[1]] == ["r2", "r3", "r4"]


@pytest.mark.req("R142", "R148")
def test_copies_go_and_the_best_rated_stays(tmp_path: Path) -> None:
    question = "please tell me how to change the delivery address of my last order "
    rows = [
        row(1, question=question + "today", rating=2),
        row(2, question=question + "now", rating=5),
        row(3, question="something else entirely, with other words"),
        row(4, "another answer", question=question + "soon"),
    ]
    _, train = run(tmp_path, [*rows, rows[2]], Step(do="drop_equal"), Step(do="drop_near", params={"rating": "rating"}))
    assert [sample.id for sample in train] == ["r2", "r3", "r4"]


@pytest.mark.req("R148")
def test_length_and_pattern_filters(tmp_path: Path) -> None:
    rows = [row(1, "ok"), row(2, "As an AI language model, I cannot."), row(3, "a good long answer"), row(4, "x" * 99)]
    steps = (
        Step(do="drop_length", params={"min_chars": 5, "max_chars": 90}),
        Step(do="drop_matching", params={"pattern": "as an ai"}),
    )
    assert [s.id for s in run(tmp_path, rows, *steps)[1]] == ["r3"]


@pytest.mark.req("R143")
def test_normalising_works_on_all_splits(tmp_path: Path) -> None:
    store, version = stored(tmp_path, [row(1, "caf\u0065\u0301  \r\nbar\u200b  ")])
    record = clean(store, version, Recipe(steps=(Step(do="normalise"),)))
    assert store.load(record.version, "train")[0].target == "caf\u00e9\nbar"
    assert store.load(record.version, "test")[0].target == "t"
    again = clean(store, record.version, record.recipe)
    assert again.version == record.version
    assert [entry.changed for entry in again.log] == [(), (), ()]


def test_targets_are_corrected_and_keys_renamed(tmp_path: Path) -> None:
    rows = [row(1, '{"firstName": "A"}'), row(2, "wrong")]
    steps = (Step(do="set_targets", params={"targets": {"r2": "right"}}), Step(do="rename_keys"))
    assert [s.target for s in run(tmp_path, rows, *steps)[1]] == ['{"first_name": "A"}', "right"]


def test_general_data_comes_from_another_version_which_becomes_a_parent(tmp_path: Path) -> None:
    source = Provenance(source="g", licence="MIT", retrieved_at="", sha256="0")
    general = [with_provenance(row(n), source) for n in range(100, 130)]
    _, other = stored(tmp_path, general)
    record, train = run(tmp_path, [row(n) for n in range(9)], Step(do="mix", params={"version": other}))
    assert len(train) == 11  # 15 % of the mix
    assert record.parents[1] == other


@pytest.mark.parametrize(("by", "count"), [("random", 7), ("class", 7), ("slice", 7), ("quality", 7)])
def test_subset_steps(tmp_path: Path, by: str, count: int) -> None:
    rows = [row(n, rating=n) for n in range(20)]
    assert len(run(tmp_path, rows, Step(do="subset", params={"count": count, "by": by}))[1]) == count


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (Step(do="drop"), "no step 'drop'"),
        (Step(do="drop_ids"), "lacks 'ids'"),
        (Step(do="drop_equal", params={"x": 1}), "no parameter 'x'"),
        (Step(do="mix", params={"store": 1}), "no parameter 'store'"),
        (Step(do="drop_equal", splits=("dev",)), "split 'dev'"),
        (Step(do="drop_matching", params={"pattern": "("}), "no regular expression"),
        (Step(do="drop_length", params={"part": "x"}), "expected input or target"),
        (Step(do="subset", params={"count": 1, "by": "luck"}), "by is 'luck'"),
        (Step(do="rename_keys", params={"style": "kebab"}), "style is 'kebab'"),
    ],
)
def test_a_wrong_step_is_named(tmp_path: Path, step: Step, what: str) -> None:
    with pytest.raises(ConfigError, match=what.replace("(", r"\(")):
        run(tmp_path, [row(1)], step)


def test_a_recipe_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training row"):
        run(tmp_path, [row(1)], Step(do="drop_ids", params={"ids": ["r1"]}))


def test_recipes_survive_their_file(tmp_path: Path) -> None:
    recipe = Recipe(
        seed=4,
        steps=(
            Step(do="drop_ids", params={"ids": ['a"b', "é\\"]}, why="said so"),
            Step(do="set_targets", params={"targets": {"r 1": "line\nline", "ü": ""}}),
            Step(do="drop_bottom", params={"fraction": 0.1}, splits=("train",)),
        ),
    )
    path = write_recipe(recipe, tmp_path / "recipe.toml")
    assert read_recipe(path) == recipe
    assert recipe.hash == read_recipe(path).hash
    assert recipe_toml(recipe) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "what"),
    [("step = 1", "not a table"), ("[[step]]\nx = 1", "steps.0.do"), ("a b", "not valid TOML"), ("sed = 1", "sed")],
)
def test_a_wrong_recipe_is_one_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=what):
        read_recipe(tmp_path / "r.toml")
    with pytest.raises(NotFound):
        read_recipe(tmp_path / "none.toml")


def found(name: str, severity: str = "warning", ids: tuple[str, ...] = ()) -> Finding:
    return Finding.model_validate({"id": name, "severity": severity, "title": name, "count": 1, "sample_ids": ids})


def test_accepted_findings_become_steps() -> None:
    findings = [
        found("DATA051"),
        found("DATA005", ids=("r1", "r2")),
        found("DATA010", ids=("r3",)),
        found("DATA057", "info", ids=("r4",)),
        found("DATA020", "error"),
    ]
    recipe = recipe_from_findings(findings)
    assert [step.do for step in recipe.steps] == ["drop_ids", "strip_html", "drop_equal"]
    assert recipe.steps[0].params == {"ids": ["r1", "r2"]}
    assert [s.do for s in recipe_from_findings(findings, accepted=["DATA057"]).steps] == ["drop_ids"]
    assert all(step.do in STEPS for step in recipe.steps)
    with pytest.raises(ConfigError, match="no finding DATA999"):
        recipe_from_findings(findings, accepted=["DATA999"])
