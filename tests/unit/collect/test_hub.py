"""Hub data sets against a local server that speaks the hub's file protocol."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foretune.collect.collect import collect
from foretune.collect.hub import HubName, collect_hub, parse_hub_name
from foretune.config.job import DataConfig, JobConfig
from foretune.errors import ConfigError, ForetuneError, GateRefused, NotFound, ServeError
from local_web import Answerer, Call, FakeClock, Reply, Web

pytest.importorskip("huggingface_hub")
Serve = Callable[[Answerer], Web]
COMMIT = "a" * 40
OTHER = "b" * 40
PARQUET = "c" * 40
ID = "mteb/tweet_sentiment_extraction"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The other tests forbid the hub; these talk to a server on this machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def pairs(num: int, first: int = 0) -> bytes:
    rows = [{"text": f"tweet number {hashlib.md5(str(n).encode()).hexdigest()}", "label": n % 3} for n in range(num)]
    return "".join(json.dumps({**row, "n": first}) + "\n" for row in rows).encode()


class Hub:
    """Repositories by id and revision: their card and files."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, tuple[str, dict[str, Any], dict[str, bytes]]]] = {}

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        card: dict[str, Any] | None = None,
        revision: str = "main",
        sha: str = COMMIT,
    ) -> None:
        entry = (sha, card or {}, files)
        self.repos.setdefault(name, {}).update({revision: entry, sha: entry})

    def __call__(self, call: Call) -> Reply:
        from urllib.parse import unquote

        path = unquote(call.path)
        name = next((name for name in self.repos if f"/{name}/" in f"{path}/"), "")
        if not name:
            return Reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        head, _, rest = path.partition(f"/{name}")
        revisions = self.repos[name]
        if head == "/api/datasets":
            revision = rest.removeprefix("/revision/") or "main"
            if revision not in revisions:
                return Reply({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            sha, card, files = revisions[revision]
            siblings = [{"rfilename": file} for file in ("README.md", *files)]
            return Reply({"id": name, "sha": sha, "cardData": card, "siblings": siblings, "private": False})
        revision, _, file = rest.removeprefix("/resolve/").partition("/")
        sha, _, files = revisions[revision]
        etag = hashlib.sha1(files[file]).hexdigest()
        return Reply(files[file], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})


def fetched(web: Web, name: str | HubName, folder: Path) -> Any:
    return collect_hub(name, folder, endpoint=web.url, clock=web.clock)


@pytest.mark.req("R093")
@pytest.mark.req("R092")
def test_a_data_set_is_fetched_by_id_with_the_licence_of_its_card(serve: Serve, tmp_path: Path) -> None:
    hub = Hub()
    hub.add("owner/tweets", {"train.jsonl": pairs(60), "test.jsonl": pairs(20)}, {"license": "cc-by-sa-4.0"})
    data = fetched(serve(hub), "hf:owner/tweets", tmp_path / "data")
    assert (data.revision, data.licence, data.num_downloaded) == (COMMIT, "CC-BY-SA-4.0", 2)
    assert {split: [path.name for path in paths] for split, paths in data.splits.items()} == {
        "train": ["train-00000.jsonl"],
        "test": ["test-00000.jsonl"],
    }
    assert (tmp_path / "data" / "train-00000.jsonl").read_bytes() == pairs(60)
    card = json.loads((tmp_path / "data" / "source.json").read_text())
    assert (card["licence"], card["share"], card["kind"]) == ("CC-BY-SA-4.0", "public", "hub")
    assert card["retrieved_at"] == "2026-11-21T12:00:00Z" and COMMIT in card["url"] and "share-alike" in card["note"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.name[0] == ".") == [".hub.json"]


@pytest.mark.req("R093")
def test_config_split_and_revision_choose_the_files(serve: Serve, tmp_path: Path) -> None:
    configs = [
        {
            "config_name": "en",
            "data_files": [{"split": "train", "path": "en/train-*"}, {"split": "dev", "path": "en/d*"}],
        },
        {"config_name": "de", "data_files": "de/**"},
    ]
    files = {
        "en/train-0.jsonl": b"1",
        "en/train-1.jsonl": b"2",
        "en/dev.jsonl": b"3",
        "de/x/a.csv": b"4",
        "en/a.png": b"5",
    }
    hub = Hub()
    hub.add("owner/many", files, {"configs": configs, "license": "mit"})
    hub.add("owner/many", {"en/train-0.jsonl": b"old"}, {"configs": configs[:1]}, revision="v1", sha=OTHER)
    web = serve(hub)
    data = fetched(web, "hf:owner/many:en", tmp_path / "en")
    assert [path.read_bytes() for path in data.splits["train"]] == [b"1", b"2"] and set(data.splits) == {"train", "dev"}
    german = fetched(web, "hf:owner/many:de", tmp_path / "de")
    assert [path.name for path in german.splits["train"]] == ["train-00000.csv"]
    one = fetched(web, "hf:owner/many:en#dev", tmp_path / "dev")
    assert set(one.splits) == {"dev"}
    old = fetched(web, "hf:owner/many:en@v1", tmp_path / "en")
    assert (old.revision, old.licence) == (OTHER, "unknown")
    assert sorted(path.name for path in (tmp_path / "en").glob("*.jsonl")) == ["train-00000.jsonl"]
    assert (tmp_path / "en" / "train-00000.jsonl").read_bytes() == b"old"


@pytest.mark.req("R093")
def test_a_data_set_of_a_script_comes_from_the_converted_branch(serve: Serve, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = io.BytesIO()
    rows = [f"a tweet, number {n}, {hashlib.md5(str(n).encode()).hexdigest()}" for n in range(30)]
    parquet.write_table(pyarrow.table({"text": rows, "label_text": ["good", "bad", "neutral"] * 10}), table)
    hub = Hub()
    hub.add(ID, {"script.py": b""})
    converted = {"default/train/0000.parquet": table.getvalue()}
    hub.add(ID, converted, revision="refs/convert/parquet", sha=PARQUET)
    data = fetched(serve(hub), f"hf:{ID}", tmp_path / "data")
    assert (data.config, data.revision, data.licence) == ("default", COMMIT, "unknown")
    assert any("states no licence" in note for note in data.notes)
    job = JobConfig(data=DataConfig(path=str(tmp_path / "data")))
    record = collect(job, folder=tmp_path, runs_dir=tmp_path / "runs", run_dir=tmp_path / "runs" / "r")
    assert record.task == "classify" and {source.kind for source in record.sources} == {"hub"}
    assert any("licence is not known" in warning for warning in record.warnings)


def test_a_second_run_downloads_nothing_and_works_offline(serve: Serve, tmp_path: Path) -> None:
    hub = Hub()
    hub.add("owner/a", {"train.jsonl": pairs(5)}, {"license": "mit"})
    web = serve(hub)
    first = fetched(web, "hf:owner/a", tmp_path / "a")
    web.clock.sleep(1000)
    before = (tmp_path / "a" / "source.json").read_bytes()
    again = fetched(web, "hf:owner/a", tmp_path / "a")
    assert again == first._replace(num_downloaded=0)
    assert (tmp_path / "a" / "source.json").read_bytes() == before
    gone = collect_hub("hf:owner/a", tmp_path / "a", endpoint="http://127.0.0.1:9", clock=web.clock)
    assert gone.splits == first.splits and "cannot be reached" in gone.notes[-1]
    pinned = fetched(web, f"hf:owner/a@{COMMIT}", tmp_path / "pinned")
    num_calls = len(web.calls)
    assert fetched(web, f"hf:owner/a@{COMMIT}", tmp_path / "pinned").splits == pinned.splits
    assert len(web.calls) == num_calls


def refused(error: type[ForetuneError], words: str, name: str, web: Web, folder: Path) -> str:
    with pytest.raises(error, match=words) as caught:
        fetched(web, name, folder)
    assert "\n" not in caught.value.what and caught.value.fix
    return caught.value.fix


@pytest.mark.req("R093")
def test_what_is_not_there_is_one_clear_line(serve: Serve, tmp_path: Path) -> None:
    hub = Hub()
    configs = [{"config_name": name, "data_files": f"{name}.csv"} for name in ("english", "german")]
    hub.add("owner/two", {"english.csv": b"a", "german.csv": b"b"}, {"configs": configs})
    hub.add("owner/empty", {"picture.png": b"a"})
    web = serve(hub)
    refused(NotFound, "there is no data set owner/nothing on the hub", "hf:owner/nothing", web, tmp_path)
    refused(NotFound, "has no revision 'v9'", "hf:owner/two:english@v9", web, tmp_path)
    assert refused(NotFound, "no config 'englisch'", "hf:owner/two:englisch", web, tmp_path) == "did you mean english?"
    refused(NotFound, "no split 'tset'", "hf:owner/two:english#tset", web, tmp_path)
    assert refused(ConfigError, "2 configs: english, german", "hf:owner/two", web, tmp_path).endswith("two:english")
    refused(NotFound, "no revision 'refs/convert/parquet'", "hf:owner/empty", web, tmp_path)
    refused(ConfigError, "names no data set", "hf:a/b/c", web, tmp_path)
    refused(ConfigError, "is no id of the hub", "hf:owner/-bad-", web, tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


def test_gated_failing_and_unreachable_hubs_are_one_clear_line(serve: Serve, tmp_path: Path, clock: FakeClock) -> None:
    gated = serve(lambda call: Reply({"error": "gated"}, 403, {"X-Error-Code": "GatedRepo"}))
    assert "accept its terms" in refused(GateRefused, "is gated", "hf:owner/a", gated, tmp_path)
    refused(ServeError, "status 500", "hf:owner/a", serve(lambda call: Reply("", 500)), tmp_path)
    nowhere = Web("http://127.0.0.1:9", clock)
    assert "go online" in refused(ServeError, "cannot be reached", "hf:owner/a", nowhere, tmp_path)


def test_the_offline_switch_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServeError, match="cannot be reached") as caught:
        collect_hub("hf:owner/a", tmp_path)
    assert "\n" not in caught.value.what and "download the files elsewhere" in caught.value.fix


@pytest.mark.req("R094")
def test_the_stricter_of_the_card_and_what_is_known_counts(serve: Serve, tmp_path: Path) -> None:
    hub = Hub()
    hub.add("tatsu-lab/alpaca", {"train.jsonl": b"{}"}, {"license": "apache-2.0"})
    data = fetched(serve(hub), "hf:tatsu-lab/alpaca", tmp_path)
    assert data.licence == "CC-BY-NC-4.0" and "the card says Apache-2.0" in data.notes[0]


@pytest.mark.req("R092")
def test_a_job_names_a_hub_data_set_as_its_path(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretune.collect import collect as verb

    hub = Hub()
    files = {"data/train.jsonl": pairs(60), "data/test.jsonl": pairs(70)[len(pairs(60)) :]}
    hub.add("owner/a", files, {"license": "cc-by-nc-4.0"})
    web = serve(hub)
    monkeypatch.setattr(verb, "collect_hub", lambda name, folder: fetched(web, name, folder))
    job = JobConfig(data=DataConfig(path=f"hf:owner/a@{COMMIT}", target_field="label"))
    record = collect(job, folder=tmp_path, runs_dir=tmp_path / "runs", run_dir=tmp_path / "runs" / "r")
    assert {name: info.num_samples for name, info in record.splits.items()} == {
        "train": 54,
        "validation": 6,
        "test": 10,
    }
    assert {source.licence for source in record.sources} == {"CC-BY-NC-4.0"}
    assert any("non-commercial" in warning for warning in record.warnings)


@pytest.fixture
def hub_cli(serve: Serve, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line with a hub on this machine; call it with the hub's answers."""
    from huggingface_hub import constants

    def start(hub: Answerer) -> Any:
        web = serve(hub)
        monkeypatch.setattr(constants, "ENDPOINT", web.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        return cli, web

    return start


@pytest.mark.req("R092")
def test_audit_takes_a_data_set_of_the_hub(hub_cli: Any) -> None:
    hub = Hub()
    configs = [
        {
            "config_name": "en",
            "data_files": [{"split": "train", "path": "en.jsonl"}, {"split": "test", "path": "t.jsonl"}],
        }
    ]
    hub.add("owner/tweets", {"en.jsonl": pairs(60), "t.jsonl": pairs(20, 1)}, {"license": "mit", "configs": configs})
    cli, web = hub_cli(hub)
    found = cli("audit", "hf:owner/tweets:en:train", "--set", "data.target_field=label", "--json")
    assert found.code == 0, found.err
    document = found.document
    assert document["audit"]["num_samples"] == 60
    (source,) = document["sources"]
    assert source["licence"] == "MIT" and source["name"].startswith("hf:owner/tweets") and document["warnings"] == []
    num_calls = len(web.calls)
    again = cli("audit", f"hf:owner/tweets:en:train@{COMMIT}", "--set", "data.target_field=label", "--json")
    assert again.code == 0 and len(web.calls) > num_calls
    assert "Next: " in cli("audit", "hf:owner/tweets:en", "--set", "data.target_field=label").out


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("hf:owner/nothing", 4, "there is no data set owner/nothing on the hub"),
        ("hf:owner/tweets@v9", 4, "has no revision 'v9'"),
        ("hf:owner/tweets:en", 4, "has no config 'en'"),
        ("hf:owner/tweets::val", 4, "has no split 'val'"),
        ("hf:owner tweets", 2, "names no data set of the hub"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub_cli: Any, name: str, code: int, said: str) -> None:
    hub = Hub()
    configs = [{"config_name": "default", "data_files": "train.jsonl"}]
    hub.add("owner/tweets", {"train.jsonl": pairs(9)}, {"configs": configs})
    cli, _ = hub_cli(hub)
    result = cli("audit", name)
    assert result.code == code and said in result.err and "Traceback" not in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("error:")]) == 1
    assert not Path("runs").exists() or not list(Path("runs").glob("*-001"))


def test_an_offline_hub_is_one_line_and_a_copy_is_used(hub_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub = Hub()
    hub.add("owner/tweets", {"train.jsonl": pairs(30)}, {"license": "mit"})
    cli, _ = hub_cli(hub)
    command = ("audit", "hf:owner/tweets", "--set", "data.target_field=label")
    assert cli(*command).code == 0
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert cli(*command).code == 0
    missing = cli("audit", "hf:owner/other")
    assert missing.code == 5 and "cannot be reached" in missing.err and "data.path = FOLDER" in missing.err


def test_names_are_taken_apart() -> None:
    assert parse_hub_name("hf:a/b:c:test@d") == HubName("a/b", "c", "d", "test")
    assert parse_hub_name("hf:a/b::test") == HubName("a/b", split="test")
    assert parse_hub_name("hf:a/b:c@d#e") == HubName("a/b", "c", "d", "e")
    assert parse_hub_name("squad") == HubName("squad")
    assert parse_hub_name("hf:a/b@refs/pr/1") == HubName("a/b", revision="refs/pr/1")
