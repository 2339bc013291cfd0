"""Job files: every fault at once with its line and a suggestion, and where each value came from."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from foretune.config import JobConfig, job_schema, read_job, resolve_job
from foretune.config.read import field_names, parsed_value, user_config_path
from foretune.errors import ConfigError, NotFound


def write(folder: Path, text: str, name: str = "job.toml") -> Path:
    """A job file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path, **flags: object) -> str:
    """What reading a job file complains of."""
    with pytest.raises(ConfigError) as caught:
        resolve_job(path, flags, env={})
    return caught.value.what


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read_job(write(tmp_path, "")) == JobConfig()


def test_an_unknown_key_has_its_line_and_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "a"\n\n[train]\nrank = 8\nlerning_rate = 3e-4\n')
    text = faults_of(path)
    assert f"{path}:5: unknown key `train.lerning_rate`" in text
    assert "did you mean `learning_rate`?" in text


def test_a_key_in_the_wrong_table_is_shown_its_place(tmp_path: Path) -> None:
    text = faults_of(write(tmp_path, "[train]\npatience = 2\nprice_per_hour_usd = 1\n"))
    assert "did you mean `train.advanced.patience`?" in text
    assert "did you mean `plan.price_per_hour_usd`?" in text


def test_an_unknown_table_is_shown_the_known_ones(tmp_path: Path) -> None:
    text = faults_of(write(tmp_path, "[zzz]\na = 1\n"))
    assert "job.toml:1: unknown key `zzz`" in text
    assert "train" in text


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'name = "no spaces please"\nseed = -1\n\n[data]\ntest_fraction = 1.5\ntsk = "chat"\n\n'
        '[train]\nmethod = "lroa"\nepochs = "three"\n\n[train.advanced]\ndropout = 2\n',
    )
    text = faults_of(path)
    assert text.startswith("7 faults in ")
    for line, name in (
        (1, "name"),
        (2, "seed"),
        (5, "data.test_fraction"),
        (6, "data.tsk"),
        (9, "train.method"),
        (10, "train.epochs"),
        (13, "train.advanced.dropout"),
    ):
        assert f"{path}:{line}: " in text and f"`{name}`" in text
    assert '"lroa"' in text and "'lora'" in text


def test_dotted_keys_and_comments_do_not_shift_the_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "# rank = 1\ntrain.rank = 0\n")
    assert f"{path}:2: `train.rank`" in faults_of(path)


def test_splits_must_leave_training_data(tmp_path: Path) -> None:
    path = write(tmp_path, "[data]\nvalidation_fraction = 0.5\ntest_fraction = 0.5\n")
    assert "leaves no training data" in faults_of(path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "[1]"])
def test_a_learning_rate_is_a_finite_number(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"[train]\nepochs = {value}\n")
    assert "train.epochs" in faults_of(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"a = = 1", "not valid TOML"), (b'name = "\xff"', "UTF-8"), (b"learning_rate: 1e-5", "not valid TOML")],
)
def test_a_file_that_is_no_toml_is_a_config_error(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        read_job(path)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no job file"):
        read_job(tmp_path / "job.toml")


def test_small_floats_are_numbers(tmp_path: Path) -> None:
    assert read_job(write(tmp_path, "[train]\nlearning_rate = 1e-5\n")).train.learning_rate == 1e-5


def test_flags_go_over_environment_over_project_over_user_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user_config_path().parent.mkdir(parents=True)
    write(user_config_path().parent, "seed = 1\n[train]\nrank = 1\nepochs = 1\nlearning_rate = 1.0\n", "defaults.toml")
    path = write(tmp_path, "[train]\nrank = 2\nepochs = 2\nlearning_rate = 2.0\n")
    env = {"FORETUNE_TRAIN__EPOCHS": "3", "FORETUNE_TRAIN__LEARNING_RATE": "3", "FORETUNE_RUNS_DIR": "x"}
    resolved = resolve_job(path, {"train.learning_rate": 4.0, "base": None}, env)
    train, origins = resolved.job.train, resolved.origins
    assert (resolved.job.seed, train.rank, train.epochs, train.learning_rate) == (1, 2, 3, 4.0)
    assert [origins[f] for f in ("base", "seed", "train.rank", "train.epochs", "train.learning_rate")] == [
        "default",
        "user",
        "project",
        "environment",
        "flag",
    ]
    assert resolved.folder == tmp_path
    assert set(origins) == set(field_names())


def test_a_fault_names_the_flag_the_variable_or_the_file_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "")
    with pytest.raises(ConfigError, match=r"--set train\.rank: `train\.rank`"):
        resolve_job(path, {"train.rank": 0}, {})
    with pytest.raises(ConfigError, match=r"FORETUNE_TRAIN__RANK: `train\.rank`"):
        resolve_job(path, {}, {"FORETUNE_TRAIN__RANK": "many"})
    with pytest.raises(ConfigError, match=r"unknown key `train\.rnk`.*did you mean `rank`"):
        resolve_job(path, {"train.rnk": 2}, {})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    user_config_path().parent.mkdir(parents=True)
    write(user_config_path().parent, "[train]\nrank = 0\n", "defaults.toml")
    with pytest.raises(ConfigError, match=r"defaults\.toml: `train\.rank`"):
        resolve_job(path, {}, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("2e-4", 2e-4), ("true", True), ('["a", "b"]', ["a", "b"]), ("lora", "lora"), ('"2"', "2"), ("", "")],
)
def test_a_value_typed_on_the_command_line(text: str, value: object) -> None:
    assert parsed_value(text) == value


def test_the_schema_describes_every_field() -> None:
    schema = job_schema()
    models = [schema, *schema["$defs"].values()]
    properties = [p for model in models for p in model.get("properties", {}).values()]
    assert all("description" in p or "$ref" in p for p in properties)
    assert all(model["additionalProperties"] is False for model in models)


def test_truth_values_and_texts_are_not_numbers(tmp_path: Path) -> None:
    text = faults_of(write(tmp_path, '[train]\nepochs = true\nrank = "2"\n'))
    assert text.startswith("2 faults in ")
    assert "job.toml:2: `train.epochs`, got true" in text
    assert "job.toml:3: `train.rank`" in text
    assert resolve_job(write(tmp_path, "[train]\nepochs = 2\n"), env={}).job.train.epochs == 2.0


def test_an_empty_table_with_a_typo_is_not_passed_over(tmp_path: Path) -> None:
    assert "job.toml:1: unknown key `trian`, did you mean `train`?" in faults_of(write(tmp_path, "[trian]\n")).replace(
        "; ", ", "
    )
    assert resolve_job(write(tmp_path, "[train]\n"), {"train.rank": 8}, env={}).job.train.rank == 8


def test_a_list_that_is_given_as_one_word_is_shown_as_a_list(tmp_path: Path) -> None:
    text = faults_of(write(tmp_path, ""), **{"train.advanced.target_modules": "all-linear"})
    assert 'got "all-linear", expected a list, such as ["all-linear"]' in text


def test_settings_that_do_not_go_together_are_told_as_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, '[train]\nmethod = "full"\n[train.advanced]\nquantise_base = "4bit"\n')
    assert "`train`: method full trains every weight" in faults_of(path)
