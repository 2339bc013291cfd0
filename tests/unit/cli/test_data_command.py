"""`foretune data`: conversion with rows put aside, and benchmark items found in a file."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Cli = Any  # the fixture of conftest.py
QUESTION = "how many ducks does a farmer have who sells half of her forty eight ducks on monday morning"


def test_a_table_becomes_messages(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion\nhi,hello\nbye,see you\n")
    target = tmp_path / "rows.jsonl"
    result = cli("data", "convert", str(tmp_path / "rows.csv"), str(target), "--to", "messages", "--json")
    assert result.code == 0 and json.loads(result.out)["num_rows"] == 2
    first = json.loads(target.read_text().splitlines()[0])
    assert [m["content"] for m in first["messages"]] == ["hi", "hello"]


def test_faulty_rows_are_put_aside_when_asked(cli: Cli, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "hi", "completion": "hello"}\n{"prompt": "hi"\n')
    command = ("data", "convert", str(source), str(target), "--to", "alpaca")
    refused = cli(*command)
    assert refused.code == 3 and "rows.jsonl:2" in refused.err and not target.exists()
    aside = tmp_path / "rejected.jsonl"
    result = cli(*command, "--rejected", str(aside))
    assert result.code == 0 and len(target.read_text().splitlines()) == 1
    assert json.loads(aside.read_text().splitlines()[0])["line"] == 2


def test_an_unknown_form_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hi", "completion": "hello"}\n')
    result = cli("data", "convert", str(tmp_path / "rows.jsonl"), str(tmp_path / "o.jsonl"), "--to", "alpacca")
    assert result.code == 2 and "alpaca" in result.err


def test_benchmark_items_are_found(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "quiz.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "24"}) + "\n")
    rows = [{"prompt": f"Tell me, {QUESTION}?", "completion": "24"}, {"prompt": "hi", "completion": "hello"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("data", "contamination", str(tmp_path / "rows.jsonl"), "--benchmarks")
    index = tmp_path / "index.npz"
    found = cli(*command, str(tmp_path / "bench"), "--save-index", str(index), "--json")
    (row,) = json.loads(found.out)["rows"]
    assert row["place"].endswith("rows.jsonl:1") and "quiz.jsonl:1" in row["item"]
    assert json.loads(cli(*command, str(index), "--json").out)["rows"] == [row]
    assert "repeat an item" in cli(*command, str(index)).out


def test_production_asks_what_training_lacks(cli: Cli, tmp_path: Path) -> None:
    topics = {"refund": "please refund my money for order", "parcel": "where is my parcel with the number"}
    train = [{"prompt": f"{topics['refund']} {n}", "completion": "yes"} for n in range(80)]
    asked = [{"prompt": f"{topics[('refund', 'parcel')[n % 2]]} {n + 500}", "completion": "-"} for n in range(120)]
    for name, rows in (("train", train), ("production", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [str(tmp_path / "train.jsonl"), str(tmp_path / "production.jsonl")]
    tasks = tmp_path / "tasks.jsonl"
    result = cli("data", "coverage", *files, "--embedder", "tfidf", "--tasks", str(tasks), "--json")
    assert result.code == 0, result.err
    gaps = [t for t in json.loads(result.out)["coverage"]["topics"] if t["status"] in ("weak", "missing")]
    assert any("parcel" in topic["name"] for topic in gaps) and "parcel" in tasks.read_text()
    assert "needed" in cli("data", "coverage", *files, "--embedder", "tfidf").out


def test_a_recipe_makes_a_new_version_that_diff_explains(cli: Cli, tmp_path: Path) -> None:
    from foretune.data.samples import Message, Sample
    from foretune.data.split import Splits
    from foretune.data.store import DatasetStore

    rows = [Sample(f"s{n}", (Message("user", f"q {n} "), Message("assistant", f"a {n}"))) for n in range(9)]
    version = DatasetStore(tmp_path).save(Splits([*rows[:6], rows[0]], rows[6:7], rows[7:]))
    (tmp_path / "clean.toml").write_text('[[step]]\ndo = "drop_equal"\n')
    runs = ("--runs-dir", str(tmp_path))
    done = cli("data", "clean", version, "--recipe", str(tmp_path / "clean.toml"), *runs, "--json")
    assert done.code == 0, done.err
    new = json.loads(done.out)["clean"]["version"]
    counts = json.loads(cli("data", "diff", version, new, *runs, "--json").out)["counts"]
    assert new != version and counts["removed"] == 1 and counts["added"] == 0


def test_a_recipe_is_written_from_what_an_audit_found(cli: Cli, tmp_path: Path) -> None:
    from foretune.records.audit import AuditRecord, Finding
    from foretune.records.run import ResolvedRecord

    ids = ("s1", "s2")
    found = Finding(id="DATA012", severity="warning", title="conflicts", count=2, sample_ids=ids)
    AuditRecord(dataset_version="v1", num_samples=9, findings=(found,)).write(tmp_path / "runs" / "a-001")
    known = {"run_id": "a-001", "created": "2026-01-01T00:00:00.000+00:00", "foretune_version": "0"}
    ResolvedRecord(**known, job={}, origins={}, folder=str(tmp_path)).write(tmp_path / "runs" / "a-001")
    out = tmp_path / "clean.toml"
    command = ("data", "recipe", str(tmp_path / "runs" / "a-001"), "--out", str(out))
    result = cli(*command, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["version"] == "v1" and all(name in out.read_text() for name in ids)
    assert cli(*command, "--accept", "DATA999").code == 2
