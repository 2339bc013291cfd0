"""Where a base model lies: the embedded one, a local folder, or the Hugging Face cache; without torch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from foretune.errors import DataError, MissingDependency, NotFound
from foretune.log import note

__all__ = ["EMBEDDED", "base_config", "hub_cache", "resolve_base"]

EMBEDDED = "pebble"
PEBBLE_FOLDER = Path(__file__).parent / "pebble"
HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?(@[\w./-]+)?")
DEFAULT_REVISION = "main"
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
# What a model folder needs; pickled weights are never fetched.
WANTED_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


def resolve_base(base: str, folder: str | Path | None = None, *, download: bool = True) -> Path:
    """The folder with config.json and a tokenizer of `pebble`, a local folder or a Hugging Face id (`org/name@rev`).

    Relative paths are looked for beside `folder` (the job's) and then here. An id is taken from the local cache; only
    where it is missing, and neither `download` nor `HF_HUB_OFFLINE` forbids it, it is fetched. Raises NotFound.
    """
    if base == EMBEDDED:
        return _checked(PEBBLE_FOLDER, base)
    local = _local_folder(base, folder)
    if local is not None:
        return _checked(local, base)
    if base.startswith(("/", ".", "~")) or not HUB_ID.fullmatch(base):
        raise NotFound(
            f"no folder {base!r}, expected `{EMBEDDED}`, a model folder or an id", fix=f'base = "{EMBEDDED}"'
        )
    name, _, revision = base.partition("@")
    cached = _cached_snapshot(name, revision or DEFAULT_REVISION)
    if cached is not None:
        return _checked(cached, base)
    if not download or _is_offline():
        raise NotFound(f"model {base} is neither a folder nor in {hub_cache()}", fix=_fetch_line(name, revision))
    return _checked(_fetched(name, revision), base)


def base_config(path: str | Path) -> dict[str, Any]:
    """The config.json of a model folder. Raises NotFound, or DataError where it is damaged."""
    file = Path(path) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"{path} has no config.json", fix="give a Hugging Face model folder or `pebble`") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not valid JSON ({error})", fix="copy it again from where the model came") from None
    if not isinstance(config, dict):
        raise DataError(f"{file}: got a {type(config).__name__}, expected an object", fix="copy the file again")
    return config


def hub_cache() -> Path:
    """Where Hugging Face keeps downloaded models, by its own environment variables."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = os.environ.get("HF_HOME") or str(Path(cache) / "huggingface")
    return Path(home).expanduser() / "hub"


def _local_folder(base: str, folder: str | Path | None) -> Path | None:
    path = Path(base).expanduser()
    candidates = [Path(folder) / path, path] if folder is not None else [path]
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def _checked(folder: Path, base: str) -> Path:
    """`folder`, if it holds a config and a tokenizer that can be read without running code."""
    if not (folder / "config.json").is_file():
        raise NotFound(
            f"base {base}: {folder} has no config.json, expected a Hugging Face model folder",
            fix="save one with model.save_pretrained(folder) and tokenizer.save_pretrained(folder)",
        )
    slow = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not slow and not (folder / "tokenizer.json").is_file():
        raise NotFound(
            f"base {base}: {folder} has no tokenizer, expected tokenizer.json (or vocab.json and merges.txt)",
            fix=f"save one there with AutoTokenizer.from_pretrained(...).save_pretrained({str(folder)!r})",
        )
    return folder


def _cached_snapshot(name: str, revision: str) -> Path | None:
    """The snapshot of a model in the cache: `models--org--name/snapshots/<commit>`, the branch resolved by `refs/`."""
    model = hub_cache() / f"models--{name.replace('/', '--')}"
    ref = model / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    snapshot = model / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _is_offline() -> bool:
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in OFFLINE_VARIABLES)


def _fetch_line(name: str, revision: str) -> str:
    extra = f" --revision {revision}" if revision else ""
    return f'hf download {name}{extra}   # once, with a network; or base = "{EMBEDDED}"'


def _fetched(name: str, revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependency("huggingface_hub is not installed", fix="pip install huggingface_hub") from error
    note(f"fetching {name} into {hub_cache()}")
    try:
        fetched = snapshot_download(
            name, revision=revision or None, cache_dir=hub_cache(), allow_patterns=list(WANTED_FILES)
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotFound(
            f"model {name} is neither a folder nor in {hub_cache()}, and cannot be fetched ({reason})",
            fix=_fetch_line(name, revision),
        ) from error
    return Path(str(fetched))
