"""`--apply` writes the next job, and beside it the rows that it needs; what the user gave stays as it is."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretune import api
from foretune.config import read_job
from foretune.config.read import resolve_job
from foretune.data.pair_fit import pair_fits
from foretune.data.samples import Message, Sample
from foretune.data.split import input_key
from foretune.data.store import DatasetStore
from foretune.diagnose.row_steps import Rows, mended_rows
from foretune.errors import ConfigError, DataError, NotFound
from foretune.records.dataset import DatasetRecord
from foretune.records.diagnosis import Cause, DataStep, DiagnosisRecord, Mode
from foretune.records.run import ResolvedRecord
from foretune.steps import Run, collect_run, create_job_run

LONG = "the parcel with the blue kettle has not arrived at my door in {} since monday, where is it now"


def chat(asked: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], **more}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A collected run with copies in train, and a test row that train has in other words."""
    home = tmp_path / "job"
    home.mkdir()
    train = [chat(f"order {n}: {n * 7} lamps", json.dumps({"n": n * 7}), id=f"t{n}") for n in range(30)]
    train += [chat("order 3: 21 lamps", json.dumps({"n": 21}), id=f"copy{n}") for n in range(5)]
    train.append(chat(LONG.format("paris") + " please", '"late"', id="leaked"))
    write_rows(home / "train.jsonl", train)
    write_rows(home / "val.jsonl", [chat(f"number {n} of the chairs", str(n)) for n in range(6)])
    write_rows(
        home / "test.jsonl", [chat(LONG.format("paris"), '"late"'), *(chat(f"{n} doors?", str(n)) for n in range(9))]
    )
    (home / "job.toml").write_text(
        '# mine\nname = "orders"\n[data]\npath = "train.jsonl"\nvalidation_path = "val.jsonl"\n'
        'test_path = "test.jsonl"\nsystem = "Be brief."\n[train]\nepochs = 3.0 # passes\n',
        encoding="utf-8",
    )
    resolved = resolve_job(home / "job.toml", {}, {})
    folder = create_job_run(resolved, runs_dir=tmp_path / "runs", source=home / "job.toml")
    collect_run(Run.open(folder))
    return folder


def diagnosed(run_dir: Path, mode: Mode, steps: tuple[DataStep, ...], **patch: Any) -> None:
    cause = Cause(
        mode=mode, statistic=2.0, evidence=("1",), explanation="e", fixes=("f",), patch=patch, data_steps=steps
    )
    DiagnosisRecord(run_id=run_dir.name, causes=(cause,), checked=(mode,)).write(run_dir)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def train_of(run_dir: Path) -> list[Sample]:
    return DatasetStore(run_dir.parent).load(DatasetRecord.read(run_dir).version, "train")


def again(job: Path, runs_dir: Path) -> Path:
    """The next job collected, as `foretune run` would."""
    folder = create_job_run(resolve_job(job, {}, {}), runs_dir=runs_dir, source=job)
    collect_run(Run.open(folder))
    return folder


def test_copies_are_dropped_in_a_copy_of_the_data(run_dir: Path, tmp_path: Path) -> None:
    before = digests(tmp_path / "job")
    diagnosed(run_dir, "duplicates", (DataStep(do="drop_equal"),), **{"train.epochs": 5.0})
    path, patch = api.next_job(run_dir.name, 1, tmp_path / "next" / "next.toml", runs_dir=run_dir.parent)
    assert digests(tmp_path / "job") == before
    assert patch["train.epochs"] == 5.0 and patch["data.path"] == "next-data/train.jsonl"
    text = path.read_text()
    assert "epochs = 5.0 # passes" in text and "# mine" in text
    job = read_job(path)
    assert job.data.test_path == "next-data/test.jsonl" and job.data.system == "Be brief."
    new = again(path, tmp_path / "runs2")
    assert len(train_of(run_dir)) == 36 and len(train_of(new)) == 31
    old_test = DatasetStore(run_dir.parent).load(DatasetRecord.read(run_dir).version, "test")
    new_test = DatasetStore(new.parent).load(DatasetRecord.read(new).version, "test")
    assert [one.messages for one in new_test] == [one.messages for one in old_test]


def test_listed_rows_are_dropped(run_dir: Path, tmp_path: Path) -> None:
    ids = tuple(sample.id for sample in train_of(run_dir)[:4])
    gone = {input_key(sample) for sample in train_of(run_dir) if sample.id in ids}
    diagnosed(run_dir, "label_noise", (DataStep(do="drop_odd", ids=ids),))
    path, _ = api.next_job(run_dir, 1, tmp_path / "next.toml", runs_dir=run_dir.parent)
    left = train_of(again(path, tmp_path / "runs2"))
    assert len(left) == 32
    assert not any(input_key(sample) in gone and sample.id in ids for sample in left)


def test_reworded_test_rows_are_dropped(run_dir: Path, tmp_path: Path) -> None:
    diagnosed(run_dir, "leakage", (DataStep(do="drop_copies"),))
    path, _ = api.next_job(run_dir, 1, tmp_path / "next.toml", runs_dir=run_dir.parent)
    left = train_of(again(path, tmp_path / "runs2"))
    assert not any("kettle" in input_key(sample) for sample in left) and len(left) == 35


def test_general_rows_are_not_written_and_mixed_in_again(tmp_path: Path) -> None:
    home = tmp_path / "job"
    home.mkdir()
    write_rows(home / "rows.jsonl", [*(chat(f"lamps {n}", str(n)) for n in range(40)), *(chat("lamps 1", "1"),) * 3])
    write_rows(home / "general.jsonl", [chat(f"say {n} twice", f"{n} {n}") for n in range(40)])
    text = '[data]\npath = "rows.jsonl"\nmix_path = "general.jsonl"\n[data.advanced]\nuse = "research"\n'
    (home / "job.toml").write_text(text, encoding="utf-8")
    card = {"kind": "file", "licence": "Apache-2.0", "share": "public"}
    (home / "source.json").write_text(json.dumps(card), encoding="utf-8")
    folder = create_job_run(
        resolve_job(home / "job.toml", {}, {}), runs_dir=tmp_path / "runs", source=home / "job.toml"
    )
    collect_run(Run.open(folder))
    assert any(sample.meta.get("mixed") for sample in train_of(folder))
    diagnosed(folder, "duplicates", (DataStep(do="drop_equal"),))
    path, _ = api.next_job(folder, 1, tmp_path / "next.toml", runs_dir=folder.parent)
    assert "twice" not in (tmp_path / "next-data" / "train.jsonl").read_text()
    new = train_of(again(path, tmp_path / "runs2"))
    assert any(sample.meta.get("mixed") for sample in new)


def test_classes_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    home = tmp_path / "job"
    home.mkdir()
    lines = [
        "text,label",
        *(f"the lamp {n} is {'good' if n % 2 else 'bad'},{'plus' if n % 2 else 'minus'}" for n in range(40)),
    ]
    (home / "rows.csv").write_text("\n".join([*lines, lines[1], lines[1]]) + "\n", encoding="utf-8")
    (home / "job.toml").write_text('[data]\npath = "rows.csv"\n[train]\nmethod = "classify"\n', encoding="utf-8")
    folder = create_job_run(
        resolve_job(home / "job.toml", {}, {}), runs_dir=tmp_path / "runs", source=home / "job.toml"
    )
    collect_run(Run.open(folder))
    diagnosed(folder, "duplicates", (DataStep(do="drop_equal"),))
    path, _ = api.next_job(folder, 1, tmp_path / "next.toml", runs_dir=folder.parent)
    new = again(path, tmp_path / "runs2")
    old_record, new_record = DatasetRecord.read(folder), DatasetRecord.read(new)
    assert new_record.task == old_record.task == "classify" and new_record.labels == old_record.labels
    before = {(input_key(sample), sample.target) for sample in train_of(folder)}
    assert {(input_key(sample), sample.target) for sample in train_of(new)} == before
    assert len(train_of(new)) == len(before)


def test_nothing_is_overwritten_and_nothing_useless_written(run_dir: Path, tmp_path: Path) -> None:
    diagnosed(run_dir, "duplicates", (DataStep(do="drop_equal"),))
    (tmp_path / "next-data").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        api.next_job(run_dir, 1, tmp_path / "next.toml", runs_dir=run_dir.parent)
    diagnosed(run_dir, "label_noise", (DataStep(do="drop_odd", ids=("none of them",)),))
    with pytest.raises(DataError, match="no training row is dropped"):
        api.next_job(run_dir, 1, tmp_path / "other.toml", runs_dir=run_dir.parent)
    diagnosed(run_dir, "wrong_base", ())
    with pytest.raises(ConfigError, match="no setting mends wrong base"):
        api.next_job(run_dir, 1, tmp_path / "other.toml", runs_dir=run_dir.parent)
    with pytest.raises(NotFound):
        api.next_job(run_dir, 2, tmp_path / "other.toml", runs_dir=run_dir.parent)
    assert not (tmp_path / "other.toml").exists() and not (tmp_path / "other-data").exists()


def test_the_pairs_alone_tell_noise_from_sound_rows() -> None:
    rng = random.Random(3)
    goods = [f"good{n}" for n in range(30)]
    pairs = [(f"order {rng.randrange(100, 999)}: {rng.choice(goods)} for {n}", n) for n in range(200)]
    inputs = [source for source, _ in pairs]
    targets = [f"{source.split()[2]} has number {source.split()[1]}" for source in inputs]
    noisy = set(rng.sample(range(200), 60))
    given = [targets[(at + 7) % 200] if at in noisy else target for at, target in enumerate(targets)]
    fits = pair_fits(inputs, given)
    sound = sorted(fit for at, fit in enumerate(fits) if at not in noisy)
    odd = sorted(fits[at] for at in noisy)
    assert sum(fit > odd[-6] for fit in sound) >= 130  # all but a tenth of the odd fit worse than nearly all the sound
    assert pair_fits(["a"], [""]) == [0.0] and pair_fits([], []) == []


def test_rows_that_were_not_probed_go_with_the_odd_ones(run_dir: Path, tmp_path: Path) -> None:
    rows = train_of(run_dir)
    goods = [f"good{n}" for n in range(30)]
    plain = [replace(rows[0], id=f"r{n}", messages=_turns(f"order {n + 100}: {goods[n % 30]}", n)) for n in range(120)]
    noisy = {f"r{n}" for n in range(0, 120, 4)}
    mixed = [replace(one, messages=_turns_of(one, plain[(at + 9) % 120])) if one.id in noisy else one
             for at, one in enumerate(plain)]  # fmt: skip
    probed = {f"r{n}" for n in range(60)}
    step = DataStep(do="drop_odd", ids=tuple(sorted(noisy & probed)))
    left = {sample.id for sample in mended_rows([step], Rows(mixed, [], probed))}
    assert len(left & noisy) <= 3 and len(left - noisy) >= 80


def _turns(asked: str, number: int) -> tuple[Message, ...]:
    return Message("user", asked), Message("assistant", f"{asked.split()[-1]} has {number + 100}")


def _turns_of(one: Sample, other: Sample) -> tuple[Message, ...]:
    return one.messages[0], other.messages[1]


def test_answers_that_run_on_into_another_row_are_cut(run_dir: Path) -> None:
    rows = train_of(run_dir)
    a, b = rows[0], next(row for row in rows if input_key(row) != input_key(rows[0]))
    long = replace(a, messages=(*a.messages[:-1], Message("assistant", f"{a.target}\n{input_key(b)}\n{b.target}")))
    two_lines = replace(b, messages=(*b.messages[:-1], Message("assistant", "first\nsecond")))
    cut = mended_rows([DataStep(do="cut_answers")], Rows([long, two_lines, b], [], set()))
    assert [sample.target for sample in cut] == [a.target, "first\nsecond", b.target]


def test_answers_that_say_themselves_again_are_said_once(run_dir: Path) -> None:
    """Where most do; a list that happens to repeat its only line stays."""
    rows = train_of(run_dir)[:8]
    twice = [with_answer(row, f"{row.target}\nso\n{row.target}\nso\n{row.target}") for row in rows]
    endless = [with_answer(row, f"{row.target} {at}\n{row.target} {at}\n") for at, row in enumerate(rows)]
    lists = [with_answer(row, "1\n1") if at == 0 else row for at, row in enumerate(rows)]
    step = [DataStep(do="cut_answers")]
    assert [one.target for one in mended_rows(step, Rows(twice, [], set()))] == [f"{row.target}\nso" for row in rows]
    again = [with_answer(row, f"{row.target}\n{row.target}\n{row.target}") for row in rows]
    assert [one.target for one in mended_rows(step, Rows(again, [], set()))] == [row.target for row in rows]
    assert mended_rows(step, Rows(lists, [], set())) == lists
    assert mended_rows(step, Rows(endless, [], set())) == endless


def test_answers_are_cut_to_the_lines_of_held_out_ones_where_nothing_else_tells(run_dir: Path) -> None:
    rows = train_of(run_dir)[:6]
    long = [with_answer(row, f"{row.target}\nask me {at} more") for at, row in enumerate(rows)]
    step = [DataStep(do="cut_answers")]
    assert [one.target for one in mended_rows(step, Rows(long, rows[:2], set()))] == [row.target for row in rows]
    assert mended_rows(step, Rows(long, long[:2], set())) == long


def with_answer(row: Sample, text: str) -> Sample:
    return replace(row, messages=(*row.messages[:-1], Message("assistant", text)))


def test_half_of_production_joins_training_and_the_other_half_judges(run_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "job"
    write_rows(home / "production.jsonl", [chat(f"send {n} lamps quickly", str(n)) for n in range(20)])
    resolved = ResolvedRecord.read(run_dir)
    data = {**resolved.job["data"], "production_path": "production.jsonl"}
    resolved.model_copy(update={"job": {**resolved.job, "data": data}}).write(run_dir)
    diagnosed(run_dir, "distribution_shift", (DataStep(do="add_production"),))
    path, patch = api.next_job(run_dir, 1, tmp_path / "next.toml", runs_dir=run_dir.parent)
    assert patch["data.production_path"] == "next-data/production.jsonl"
    trained = {input_key(sample) for sample in train_of(again(path, tmp_path / "runs2"))}
    judged = (tmp_path / "next-data" / "production.jsonl").read_text()
    joined = [n for n in range(20) if f"send {n} lamps quickly" in trained]
    assert len(joined) == 10 and not any(f'"send {n} lamps quickly"' in judged for n in joined)


def test_general_rows_are_made_for_a_base_of_our_corpus(run_dir: Path, tmp_path: Path) -> None:
    diagnosed(run_dir, "forgetting", (DataStep(do="add_general"),), **{"train.learning_rate": 1e-4})
    path, patch = api.next_job(run_dir, 1, tmp_path / "next.toml", runs_dir=run_dir.parent)
    assert patch["data.mix_path"] == "next-data/general/general.jsonl" and patch["data.advanced.mix_fraction"] == 0.2
    assert read_job(path).data.path == "job/train.jsonl"
    new = train_of(again(path, tmp_path / "runs2"))
    share = sum(bool(sample.meta.get("mixed")) for sample in new) / len(new)
    assert share == pytest.approx(0.2, abs=0.03)
