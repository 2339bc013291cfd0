"""A job's paths mean the same from another folder."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from foretune.config.settings import moved_paths, settings_of


def test_every_file_that_evaluation_reads_is_found_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "schema.json").write_text("{}")
    settings = settings_of({"evaluate": {"documents": "docs", "json_schema": "schema.json"}})
    moved = moved_paths(settings, tmp_path, tmp_path / "next" / "deep")
    assert (moved["evaluate.documents"], moved["evaluate.json_schema"]) == ("../../docs", "../../schema.json")
