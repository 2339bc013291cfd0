"""Data sets of the Hugging Face hub by id, config, split and revision, with the licence of their card."""

# SPDX-License-Identifier: Apache-2.0
#
# FOLDER/SPLIT-00000.parquet ...  the data files, named by split, so that `collect` keeps the splits
# FOLDER/source.json              licence, share policy, address with the commit, time
# FOLDER/.hub.json                which remote file each one is: a second run downloads nothing
#
# Which files belong to which split: the `configs` of the card (huggingface.co/docs/hub/datasets-manual-configuration,
# read 2026-11-21), else the names of files and folders, else the branch refs/convert/parquet that the hub writes.
from __future__ import annotations

import difflib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from foretune.collect.sources import SourceCard
from foretune.collect.web import Clock, SystemClock, stamp
from foretune.data.files import file_hash, kind_of, split_of
from foretune.data.known import find_known
from foretune.data.licences import licence_id, licence_terms
from foretune.errors import ConfigError, GateRefused, MissingDependency, NotFound, ServeError
from foretune.records.base import write_atomically
from foretune.records.dataset import UNKNOWN_LICENCE

__all__ = ["HubData", "HubName", "collect_hub", "parse_hub_name"]

PREFIX = "hf:"
NAME = re.compile(
    r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^@#:]*))?(?::(?P<part>[^@#:]+))?(?:@(?P<revision>[^#]+))?(?:#(?P<split>.+))?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
CONVERTED = "refs/convert/parquet"
KINDS = ("parquet", "jsonl", "csv", "json", "text")  # where a repository holds the same rows in several, the first
NOT_ROWS = re.compile(r"(?i)^(readme|licen[cs]e|dataset_infos?|requirements|state|metadata|config|\.)")
MANIFEST = ".hub.json"
OFFLINE_FIX = "go online, or download the files elsewhere and give the folder: data.path = FOLDER"


class HubName(NamedTuple):
    """A data set of the hub; "" = the default config, all splits, the newest revision."""

    id: str
    config: str = ""
    revision: str = ""
    split: str = ""


class HubData(NamedTuple):
    """What was downloaded: `revision` is the commit; `num_downloaded` is 0 where all of it was there already."""

    folder: Path
    id: str
    config: str
    revision: str
    licence: str
    splits: dict[str, tuple[Path, ...]]
    num_downloaded: int
    notes: tuple[str, ...]


class _Door(NamedTuple):
    """huggingface_hub, as much of it as is used here."""

    api: Any
    download: Any
    errors: Any
    request_error: type[Exception]


def parse_hub_name(text: str) -> HubName:
    """`hf:owner/name:config:split@revision` taken apart; all but the name may be left out. Raises ConfigError.

    A split may stand behind `#` too: `hf:owner/name#test`.
    """
    found = NAME.fullmatch(text.removeprefix(PREFIX).strip())
    if found is None or (found.group("part") and found.group("split")):
        raise ConfigError(f"{text!r} names no data set of the hub", fix="hf:owner/name[:config[:split]][@revision]")
    split = found.group("split") or found.group("part")
    return HubName(*(part or "" for part in (found.group("id"), found.group("config"), found.group("revision"), split)))


def collect_hub(
    name: HubName | str, folder: str | Path, *, endpoint: str | None = None, clock: Clock | None = None
) -> HubData:
    """Download the data files of a hub data set into `folder`, with a card that holds its licence.

    A copy that was fetched before is used where the hub cannot be reached, and at once where the revision is a whole
    commit. Raises NotFound (id, revision, config, split), GateRefused (terms to accept first), ServeError (offline, or
    the hub fails), ConfigError, MissingDependency: one line each.
    """
    wanted = parse_hub_name(name) if isinstance(name, str) else name
    kept = _kept(Path(folder), wanted)
    if kept is not None and COMMIT.fullmatch(wanted.revision):
        return kept
    door = _door(endpoint)
    try:
        with _told(door, wanted):
            info = door.api.dataset_info(wanted.id, revision=wanted.revision or None)
    except ServeError as error:
        if kept is None:
            raise
        return kept._replace(notes=(*kept.notes, f"{error.what}: the copy in {folder} is used"))
    card = _card(info)
    files, config, commit, branch = _chosen(door, wanted, info, card)
    splits, num_downloaded = _download(door, wanted.id, branch, files, Path(folder), endpoint)
    licence, notes = _licence(wanted.id, card)
    url = f"https://huggingface.co/datasets/{wanted.id}/tree/{info.sha}"
    moment = stamp((clock or SystemClock()).now())
    source = SourceCard(
        kind="hub",
        name=f"{PREFIX}{wanted.id}{':' + config if config else ''}@{info.sha[:12]}",
        url=url,
        licence=licence,
        share=licence_terms(licence).share,
        retrieved_at=moment,
        note=" ".join(notes),
    )
    if num_downloaded or not (Path(folder) / "source.json").is_file():
        write_atomically(Path(folder) / "source.json", source.model_dump_json(indent=2) + "\n")
    data = HubData(Path(folder), wanted.id, config, commit, licence, splits, num_downloaded, tuple(notes))
    _keep(data, wanted, branch, files)
    return data


def _keep(data: HubData, wanted: HubName, branch: str, files: Mapping[str, Sequence[str]]) -> None:
    """Write down what lies in the folder, and take out what an earlier revision or config had put there."""
    stale = set(_manifest(data.folder).get("files", {}))
    listed: dict[str, dict[str, str]] = {}
    for split, paths in data.splits.items():
        for path, remote in zip(paths, sorted(files[split]), strict=True):
            listed[path.name] = {"remote": _remote(data.id, branch, remote), "sha256": file_hash(path)}
    for name in stale - set(listed):
        if Path(name).name == name:
            (data.folder / name).unlink(missing_ok=True)
    manifest = {
        "request": wanted._asdict(),
        "config": data.config,
        "revision": data.revision,
        "licence": data.licence,
        "notes": data.notes,
        "splits": {split: [path.name for path in paths] for split, paths in data.splits.items()},
        "files": listed,
    }
    write_atomically(data.folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _kept(folder: Path, wanted: HubName) -> HubData | None:
    """What an earlier run fetched for the same request; None unless all of it is there."""
    kept = _manifest(folder)
    if kept.get("request") != wanted._asdict():
        return None
    splits = {split: tuple(folder / name for name in names) for split, names in kept["splits"].items()}
    if not all(path.is_file() for paths in splits.values() for path in paths):
        return None
    return HubData(
        folder, wanted.id, kept["config"], kept["revision"], kept["licence"], splits, 0, tuple(kept["notes"])
    )


def _remote(name: str, revision: str, file: str) -> str:
    return f"{name}@{revision}/{file}"


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _door(endpoint: str | None) -> _Door:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        fix = "pip install 'huggingface_hub>=0.30'"
        raise MissingDependency("data sets of the hub need huggingface_hub", fix=fix) from None
    base = errors.HfHubHTTPError.__mro__[1]  # HTTPError of whichever HTTP package it is built on
    request_error = base if issubclass(base, Exception) else OSError
    return _Door(huggingface_hub.HfApi(endpoint=endpoint), huggingface_hub.hf_hub_download, errors, request_error)


@contextmanager
def _told(door: _Door, wanted: HubName) -> Iterator[None]:
    """The hub's errors as foretune's, one line each."""
    errors, what = door.errors, f"the hub's data set {wanted.id}"
    try:
        yield
    except errors.GatedRepoError:
        fix = f"accept its terms at huggingface.co/datasets/{wanted.id}, then: hf auth login"
        raise GateRefused(f"{what} is gated", fix=fix) from None
    except errors.RevisionNotFoundError:
        raise NotFound(
            f"{what} has no revision {wanted.revision!r}", fix="leave @revision out for the newest"
        ) from None
    except (errors.RepositoryNotFoundError, errors.DisabledRepoError):
        fix = f"check the id at huggingface.co/datasets/{wanted.id}; if it is private: hf auth login"
        raise NotFound(f"there is no data set {wanted.id} on the hub, or you may not see it", fix=fix) from None
    except errors.HFValidationError as error:
        raise ConfigError(f"{wanted.id!r} is no id of the hub: {_line(error)}", fix="expected owner/name") from None
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "?")
        raise ServeError(f"{what}: the hub answers with status {status}", fix="try again later") from None
    except errors.OfflineModeIsEnabled:
        raise ServeError(f"{what} cannot be reached: HF_HUB_OFFLINE is set", fix=OFFLINE_FIX) from None
    except (OSError, door.request_error, errors.EntryNotFoundError) as error:
        raise ServeError(f"{what} cannot be reached ({_line(error)})", fix=OFFLINE_FIX) from None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:120] or type(error).__name__


def _card(info: Any) -> dict[str, Any]:
    """The YAML head of the card as the hub gives it; {} where there is none."""
    data = info.card_data
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else dict(data.to_dict())


def _licence(name: str, card: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The licence that the card states, and what the user must be told about it."""
    stated = card.get("license", card.get("licence"))
    several = [str(value) for value in stated] if isinstance(stated, list) else [str(stated or "")]
    licence = licence_id(several[0]) if len(several) == 1 else " AND ".join(map(licence_id, several))
    if licence == UNKNOWN_LICENCE and card.get("license_name"):
        licence = str(card["license_name"])
    known, notes = find_known(name), []
    if known is not None and known.licence not in (licence, UNKNOWN_LICENCE):
        notes.append(
            f"the card says {licence}, foretune knows {known.licence} ({known.source}): the stricter one counts."
        )
        licence = known.licence
    notes += [text for text in (licence_terms(licence).warning, known.warning if known else "") if text]
    return licence, notes


def _chosen(
    door: _Door, wanted: HubName, info: Any, card: Mapping[str, Any]
) -> tuple[dict[str, list[str]], str, str, str]:
    """Remote files by split, the config, the commit, and the revision to download from."""
    names = [sibling.rfilename for sibling in info.siblings or ()]
    configs = _configs(card, names)
    config = _config_name(wanted, configs)
    files = configs.get(config) or _by_name(names, config)
    branch = info.sha
    if not files:
        with _told(door, wanted._replace(revision=CONVERTED)):
            converted = door.api.dataset_info(wanted.id, revision=CONVERTED)
        files, config = _converted([sibling.rfilename for sibling in converted.siblings or ()], wanted)
        branch = converted.sha
    if wanted.split:
        if wanted.split not in files:
            raise _missing("split", wanted.split, files, wanted)
        files = {wanted.split: files[wanted.split]}
    return files, config, info.sha, branch


def _missing(what: str, name: str, present: Iterable[str], wanted: HubName) -> NotFound:
    listed = sorted(present)
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(listed[:20])}"
    return NotFound(f"{wanted.id} has no {what} {name!r}", fix=hint)


def _configs(card: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Files by config and split as the card declares them; only files that foretune can read."""
    found: dict[str, dict[str, list[str]]] = {}
    entries = card.get("configs")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    for entry in sorted(entries, key=lambda entry: not entry.get("default")):
        declared = entry.get("data_files")
        if declared is None:
            continue
        prefix = str(entry.get("data_dir") or "").strip("/")
        splits: dict[str, list[str]] = {}
        for split, pattern in _patterns(declared):
            matching = _matching(names, f"{prefix}/{pattern}" if prefix else pattern)
            splits.setdefault(split, []).extend(name for name in matching if name not in splits.get(split, []))
        found[str(entry.get("config_name", "default"))] = {split: listed for split, listed in splits.items() if listed}
    return found


def _patterns(declared: Any) -> Iterator[tuple[str, str]]:
    """(split, pattern) of a `data_files` entry in each of its spellings."""
    for item in declared if isinstance(declared, list) else [declared]:
        if isinstance(item, str):
            yield split_of(Path(item)) or "train", item
        elif isinstance(item, dict):
            paths = item.get("path", [])
            for path in paths if isinstance(paths, list) else [paths]:
                yield str(item.get("split", "train")), str(path)


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    """Names that a glob means: `*` stays within a folder, `**` does not; a folder means all that is in it."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern.removeprefix("./"))
    codes = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    rule = "".join(codes.get(part, re.escape(part)) for part in parts)
    whole = re.compile(rule + (".*" if pattern.endswith("/") else ""))
    return [name for name in names if kind_of(Path(name)) and whole.fullmatch(name)]


def _config_name(wanted: HubName, configs: Mapping[str, Any]) -> str:
    if wanted.config:
        if configs and wanted.config not in configs:
            raise _missing("config", wanted.config, configs, wanted)
        return wanted.config
    if len(configs) <= 1 or "default" in configs:
        return "default" if "default" in configs else next(iter(configs), "")
    fix = f"name one: {PREFIX}{wanted.id}:{next(iter(configs))}"
    raise ConfigError(f"{wanted.id} has {len(configs)} configs: {', '.join(list(configs)[:10])}", fix=fix)


def _by_name(names: Sequence[str], config: str) -> dict[str, list[str]]:
    """Files by the split that their names or folders declare; those of one kind, those of `config`'s folder."""
    data = [name for name in names if kind_of(Path(name)) and not NOT_ROWS.match(PurePosixPath(name).name)]
    if config and config != "default":
        data = [name for name in data if config in PurePosixPath(name).parts[:-1]]
    kind = next((kind for kind in KINDS if any(kind_of(Path(name)) == kind for name in data)), "")
    found: dict[str, list[str]] = {}
    for name in data:
        if kind_of(Path(name)) == kind:
            found.setdefault(_split_of(name), []).append(name)
    return found


def _split_of(name: str) -> str:
    path = PurePosixPath(name)
    return next((split for part in reversed(path.parts) if (split := split_of(Path(part)))), "train")


def _converted(names: Sequence[str], wanted: HubName) -> tuple[dict[str, list[str]], str]:
    """Files of the converted branch (`config/split/0000.parquet`) by split, and their config."""
    configs: dict[str, dict[str, list[str]]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if len(parts) == 3 and name.endswith(".parquet"):
            configs.setdefault(parts[0], {}).setdefault(parts[1].removeprefix("partial-"), []).append(name)
    if not configs:
        fix = "download it by its own instructions and give the folder: data.path = FOLDER"
        raise NotFound(f"{wanted.id} has no data files that foretune can read", fix=fix)
    config = _config_name(wanted, configs)
    return configs[config], config


def _download(
    door: _Door, name: str, revision: str, files: Mapping[str, Sequence[str]], folder: Path, endpoint: str | None
) -> tuple[dict[str, tuple[Path, ...]], int]:
    """The files by split as local paths, and how many of them were not there yet."""
    have = _manifest(folder).get("files", {})
    splits: dict[str, tuple[Path, ...]] = {}
    num_downloaded = 0
    for split, remote in files.items():
        paths = []
        for number, file in enumerate(sorted(remote)):
            path = folder / f"{_safe(split)}-{number:05d}{''.join(PurePosixPath(file).suffixes[-2:])}"
            is_there = path.is_file() and have.get(path.name, {}).get("remote") == _remote(name, revision, file)
            if not is_there:
                _fetch(door, HubName(name, revision=revision), file, path, endpoint)
                num_downloaded += 1
            paths.append(path)
        splits[split] = tuple(paths)
    return splits, num_downloaded


def _safe(split: str) -> str:
    return re.sub(r"[^\w.-]+", "_", split).strip(".-") or "train"


def _fetch(door: _Door, wanted: HubName, file: str, path: Path, endpoint: str | None) -> None:
    """Download one file beside its place, then move it there whole."""
    working = path.parent / ".downloading"
    with _told(door, wanted):
        got = door.download(
            wanted.id, file, repo_type="dataset", revision=wanted.revision, local_dir=working, endpoint=endpoint
        )
        os.replace(got, path)
    shutil.rmtree(working, ignore_errors=True)
