"""Dataset versions on disk: named by the hash of their content, written once, verified on every read."""

# SPDX-License-Identifier: Apache-2.0
#
# <runs_dir>/.datasets/<version>/{train,validation,test}.jsonl and manifest.json. The version hashes what the samples
# say and which split they are in, not their ids, places or order: renaming a file or shuffling it makes no new version.
from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foretune.data.samples import Sample, message_line, sample_hash
from foretune.data.split import SPLITS, Splits
from foretune.errors import DataError, NotFound
from foretune.records.base import write_atomically, write_error
from foretune.records.dataset import SplitInfo

__all__ = ["DATASETS_DIR", "DatasetStore", "dataset_version", "split_hash", "write_training_file"]

DATASETS_DIR = ".datasets"
MANIFEST = "manifest.json"
VERSION_CHARS = 16


def split_hash(samples: Iterable[Sample]) -> str:
    """SHA-256 (hex) of what the samples say, whatever their order."""
    return hashlib.sha256("\n".join(sorted(map(sample_hash, samples))).encode()).hexdigest()


def dataset_version(hashes: dict[str, str]) -> str:
    """The version from the content hashes of its splits: 16 hex digits."""
    text = "\n".join(f"{name} {hashes[name]}" for name in SPLITS)
    return hashlib.sha256(text.encode()).hexdigest()[:VERSION_CHARS]


def write_training_file(samples: Iterable[Sample], path: str | Path) -> Path:
    """Write conversations as an OpenAI fine-tuning file: UTF-8 JSONL, `{"messages": [...]}` on each line."""
    target = Path(path)
    write_atomically(target, "".join(message_line(sample) + "\n" for sample in samples))
    return target


class DatasetStore:
    """The dataset versions of one runs folder."""

    def __init__(self, runs_dir: str | Path) -> None:
        self.root = Path(runs_dir) / DATASETS_DIR

    def folder(self, version: str) -> Path:
        """Where a version lies, whether or not it exists."""
        return self.root / version

    def save(self, splits: Splits) -> str:
        """Write the splits, unless this version is there already; returns the version.

        Raises DoesNotFit or ForetuneError where the folder cannot be written.
        """
        parts = splits.as_dict()
        hashes = {name: split_hash(samples) for name, samples in parts.items()}
        version = dataset_version(hashes)
        if self._is_whole(version):
            return version
        temporary = ""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            temporary = tempfile.mkdtemp(dir=self.root, prefix=".writing-")
            _write_parts(Path(temporary), parts, hashes)
            os.chmod(temporary, 0o755)
            shutil.rmtree(self.folder(version), ignore_errors=True)
            os.replace(temporary, self.folder(version))
        except OSError as error:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            if not self._is_whole(version):  # else another process wrote the same version just now
                raise write_error(self.folder(version), error) from error
        return version

    def _is_whole(self, version: str) -> bool:
        try:
            return all(self.load(version, name) is not None for name in SPLITS)
        except (NotFound, DataError):
            return False

    def infos(self, version: str) -> dict[str, SplitInfo]:
        """Size and content hash of each split. Raises NotFound, DataError."""
        manifest = self._manifest(version)
        return {name: SplitInfo(**manifest[name]) for name in SPLITS}

    def load(self, version: str, split: str) -> list[Sample]:
        """The samples of one split. Raises NotFound, or DataError where the file is not what was saved."""
        info = self.infos(version)[split]
        path = self.folder(version) / f"{split}.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            samples = [Sample.from_json(json.loads(line)) for line in lines if line]
        except FileNotFoundError:
            raise NotFound(
                f"no {split} split of dataset {version}", fix="foretune audit job.toml   # writes it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise _changed(path, str(error)) from None
        if split_hash(samples) != info.sha256:
            raise _changed(path, "its hash differs")
        return samples

    def _manifest(self, version: str) -> dict[str, Any]:
        path = self.folder(version) / MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            hashes = {name: manifest[name]["sha256"] for name in SPLITS}
        except FileNotFoundError:
            fix = "foretune audit job.toml   # reads the data again and writes it"
            raise NotFound(f"no dataset {version} in {self.root}", fix=fix) from None
        except (ValueError, KeyError, TypeError) as error:
            raise _changed(path, str(error)) from None
        if dataset_version(hashes) != version:
            raise _changed(path, "its hashes are not those of this version")
        return manifest


def _write_parts(folder: Path, parts: dict[str, list[Sample]], hashes: dict[str, str]) -> None:
    for name, samples in parts.items():
        _write_synced(folder / f"{name}.jsonl", _lines(samples))
    manifest = {name: {"num_samples": len(samples), "sha256": hashes[name]} for name, samples in parts.items()}
    _write_synced(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _lines(samples: Sequence[Sample]) -> str:
    return "".join(json.dumps(sample.to_json(), ensure_ascii=False) + "\n" for sample in samples)


def _write_synced(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _changed(path: Path, why: str) -> DataError:
    fix = f"delete {path.parent} and run the job again; it is written anew from the source files"
    return DataError(f"{path}: not what foretune wrote ({why})", fix=fix)
