"""Where a base is found: embedded, local folder, Hugging Face cache; and clear errors where it is not."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretune.errors import DataError, NotFound
from foretune.models.base import base_config, hub_cache, resolve_base


def model_folder(path: Path, *files: str) -> Path:
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_text("{}")
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cached_model(cache: Path, name: str, commit: str, branch: str = "main") -> Path:
    model = cache / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True, exist_ok=True)
    (model / "refs" / branch).write_text(commit)
    return model_folder(model / "snapshots" / commit, "config.json", "tokenizer.json")


def test_pebble_is_in_the_package() -> None:
    folder = resolve_base("pebble")
    assert (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()
    assert base_config(folder)["model_type"] == "llama"


def test_a_local_folder(tmp_path: Path, cache: Path) -> None:
    folder = model_folder(tmp_path / "m", "config.json", "tokenizer.json")
    assert resolve_base(str(folder)) == folder
    assert resolve_base("m").resolve() == folder
    assert resolve_base("./m").resolve() == folder


def test_a_relative_folder_is_looked_for_beside_the_job_first(tmp_path: Path, cache: Path) -> None:
    model_folder(tmp_path / "m", "config.json", "tokenizer.json")
    beside = model_folder(tmp_path / "jobs" / "m", "config.json", "tokenizer.json")
    assert resolve_base("m", tmp_path / "jobs") == beside
    assert resolve_base("m", tmp_path / "elsewhere").resolve() == tmp_path / "m"


def test_gpt2_style_tokenizer_files_are_enough(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", "config.json", "vocab.json", "merges.txt")
    assert resolve_base(str(folder)) == folder


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (("tokenizer.json",), "config.json"),
        (("config.json",), "tokenizer"),
        (("config.json", "vocab.json"), "tokenizer"),
    ],
)
def test_a_folder_that_misses_something_says_what(files: tuple[str, ...], missing: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", *files)
    with pytest.raises(NotFound, match=f"has no {missing}") as caught:
        resolve_base(str(folder))
    assert "save" in caught.value.fix


@pytest.mark.parametrize("base", ["./nowhere", "/no/such/folder", "~/nowhere-at-all", "what is this?", ""])
def test_what_cannot_be_an_id_is_not_looked_up(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foretune.models.base._fetched", lambda *_: pytest.fail("went to the network"))
    with pytest.raises(NotFound) as caught:
        resolve_base(base)
    assert caught.value.fix


def test_a_cached_id_is_found_without_a_network(cache: Path) -> None:
    folder = cached_model(cache, "org/tiny", "abc123")
    other = cached_model(cache, "org/tiny", "def456", branch="v2")
    assert resolve_base("org/tiny") == folder
    assert resolve_base("org/tiny@v2") == other
    assert resolve_base("org/tiny@abc123") == folder


def test_an_unknown_id_offline_names_the_command_that_fetches_it(cache: Path) -> None:
    with pytest.raises(NotFound, match="org/unknown@v1 is neither a folder nor in") as caught:
        resolve_base("org/unknown@v1")
    assert caught.value.exit_code == 4
    assert "hf download org/unknown --revision v1" in caught.value.fix


def test_an_id_that_cannot_be_fetched_is_one_clear_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError("Name or service not known\nmore lines")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(NotFound, match=r"cannot be fetched \(Name or service not known\)$"):
        resolve_base("org/unknown")


def test_an_id_is_fetched_where_the_network_is_allowed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    fetched = model_folder(tmp_path / "fetched", "config.json", "tokenizer.json")
    calls: list[tuple[object, object]] = []

    def download(name: str, **kwargs: object) -> str:
        calls.append((name, kwargs["allow_patterns"]))
        return str(fetched)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert resolve_base("org/new") == fetched
    assert calls[0][0] == "org/new"
    assert "*.safetensors" in str(calls[0][1]) and "*.bin" not in str(calls[0][1])
    with pytest.raises(NotFound):
        resolve_base("org/new", download=False)


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub_cache() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert hub_cache() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert hub_cache() == tmp_path / "cache"


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_a_damaged_config_is_a_data_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json"):
        base_config(tmp_path)


def test_a_missing_config_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        base_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert base_config(tmp_path) == {"model_type": "gpt2"}
