"""Reading: every known format becomes the same samples, and is named."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.formats import read_samples
from foretune.data.samples import Message, Sample, message_line
from foretune.data.store import write_training_file
from foretune.errors import DataError, MissingDependency, NotFound

# The two examples of the requirements: a plain answer, and an answer that is a JSON text.
PLAIN = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Paris."},
    ]
}
JSON_ANSWER = {
    "messages": [
        {"role": "user", "content": "Extract the name and the age: Ann is 31."},
        {"role": "assistant", "content": '{"name": "Ann", "age": 31}'},
    ]
}


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def question(text: str, answer: str) -> tuple[Message, ...]:
    return (Message("user", text), Message("assistant", answer))


@pytest.mark.req("R108")
@pytest.mark.req("R109")
@pytest.mark.req("R111")
def test_messages_of_both_examples(tmp_path: Path) -> None:
    data = read_samples(write_jsonl(tmp_path / "data.jsonl", [PLAIN, JSON_ANSWER]))
    assert [sample.to_json()["messages"] for sample in data.samples] == [PLAIN["messages"], JSON_ANSWER["messages"]]
    assert (data.task, data.num_rows, data.format) == ("chat", 2, "jsonl: messages")
    assert json.loads(data.samples[1].target) == {"name": "Ann", "age": 31}
    assert [sample.place for sample in data.samples] == ["data.jsonl:1", "data.jsonl:2"]


@pytest.mark.req("R110")
def test_system_message_is_optional_and_can_be_given_for_all(tmp_path: Path) -> None:
    data = read_samples(write_jsonl(tmp_path / "data.jsonl", [PLAIN, JSON_ANSWER]), system="Be exact.")
    assert [sample.messages[0] for sample in data.samples] == [
        Message("system", "You are a helpful assistant."),
        Message("system", "Be exact."),
    ]


@pytest.mark.req("R112")
def test_training_file_is_utf8_jsonl_and_comes_back_the_same(tmp_path: Path) -> None:
    samples = [Sample("a", question("é\n☃", "ü")), Sample("b", question("2", '{"a": 1}'))]
    path = write_training_file(samples, tmp_path / "training_data.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [list(json.loads(line)) for line in lines] == [["messages"], ["messages"]]
    assert "é" in lines[0]
    again = read_samples(path).samples
    assert [sample.messages for sample in again] == [sample.messages for sample in samples]
    assert [message_line(sample) for sample in again] == lines


@pytest.mark.req("R113")
@pytest.mark.parametrize(
    ("names", "form"),
    [
        (("prompt", "completion"), "prompt/completion pairs"),
        (("input", "output"), "input/output pairs"),
        (("question", "answer"), "question/answer pairs"),
        (("dialogue", "summary"), "dialogue/summary pairs"),
        (("mr", "ref"), "mr/ref pairs"),
        (("instruction", "response"), "instruction/response pairs"),
        (("text", "category"), "text/category labelled text"),
    ],
)
def test_pairs_by_their_usual_names(tmp_path: Path, names: tuple[str, str], form: str) -> None:
    rows = [dict(zip(names, pair, strict=True)) for pair in (("1+1", "two"), ("2+2", "four"))]
    data = read_samples(write_jsonl(tmp_path / "data.jsonl", rows))
    assert [sample.messages for sample in data.samples] == [question("1+1", "two"), question("2+2", "four")]
    assert data.format == f"jsonl: {form}"


@pytest.mark.req("R113")
def test_alpaca_joins_instruction_and_input_and_can_be_taken_apart(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"instruction": "Say\n\nhi.", "input": "", "output": "hi", "system": "Be brief."},
    ]
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(rows, indent=4))
    data = read_samples(path)
    assert data.format == "json: alpaca"
    assert data.samples[0].messages == question("Add.\n\n1, 2", "3")
    assert data.samples[1].messages == (Message("system", "Be brief."), *question("Say\n\nhi.", "hi"))
    assert [sample.place for sample in data.samples] == ["alpaca.json:2", "alpaca.json:7"]
    back = []
    for sample in data.samples:
        at = sample.meta.get("input_at", len(sample.input_text))
        back.append((sample.input_text[:at], sample.input_text[at + 2 :], sample.target))
    assert back == [(row["instruction"], row["input"], row["output"]) for row in rows]


@pytest.mark.req("R113")
def test_sharegpt_roles_are_translated(tmp_path: Path) -> None:
    rows = [
        {
            "id": "t1",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
            ],
        }
    ]
    data = read_samples(write_jsonl(tmp_path / "data.jsonl", rows))
    assert data.format == "jsonl: sharegpt"
    assert data.samples[0].id == "t1"
    assert data.samples[0].messages == (Message("system", "Be brief."), *question("Hi", "Hello"))


@pytest.mark.req("R113")
def test_csv_with_quotes_newlines_and_other_delimiters(tmp_path: Path) -> None:
    rows = [("a, b", 'say "x"\nand y'), ("ü", "2")]
    for name, delimiter in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([("question", "answer"), *rows])
        data = read_samples(tmp_path / name)
        assert [sample.messages for sample in data.samples] == [question(*row) for row in rows]
        assert [sample.place for sample in data.samples] == [f"{name}:2", f"{name}:4"]


@pytest.mark.req("R113")
def test_plain_text_by_paragraphs_or_by_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\nstill one.\n \n\nTwo.\n")
    data = read_samples(tmp_path / "a.txt")
    assert [sample.text for sample in data.samples] == ["One\nstill one.", "Two."]
    assert [sample.place for sample in data.samples] == ["a.txt:1", "a.txt:5"]
    assert data.task == "text"
    (tmp_path / "b.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    assert len(read_samples(tmp_path / "b.txt").samples) == 100


def test_text_field_is_raw_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{"text": "Once.", "source": "book"}])
    data = read_samples(path)
    assert data.task == "text"
    assert (data.samples[0].text, data.samples[0].meta) == ("Once.", {"source": "book"})


@pytest.mark.req("R128")
def test_labelled_text_is_classification_with_classes_from_the_data(tmp_path: Path) -> None:
    rows = [{"text": f" tweet {n} ", "label": n % 3} for n in range(9)]
    data = read_samples(write_jsonl(tmp_path / "data.jsonl", rows))
    assert data.task == "classify"
    assert data.samples[0].messages == question("tweet 0", "0")
    assert {sample.target for sample in data.samples} == {"0", "1", "2"}


@pytest.mark.req("R128")
def test_text_and_label_files_with_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "val_text.txt").write_text("so bad \nmeh \nso good \n")
    (tmp_path / "val_labels.txt").write_text("0\n1\n2\n")
    (tmp_path / "mapping.txt").write_text("0\tnegative\n1\tneutral\n2\tpositive\n")
    for path in (tmp_path, tmp_path / "val_text.txt", tmp_path / "val_labels.txt"):
        data = read_samples(path)
        assert [sample.target for sample in data.samples] == ["negative", "neutral", "positive"]
        assert [sample.input_text for sample in data.samples] == ["so bad", "meh", "so good"]
        assert data.task == "classify"


def test_parquet_rows_and_missing_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": ["1", "2"]}), path)
    data = read_samples(path)
    assert [sample.messages for sample in data.samples] == [question("a", "1"), question("b", "2")]
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingDependency) as caught:
        read_samples(path)
    assert caught.value.fix == "pip install pyarrow"


def test_messages_in_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([PLAIN]), tmp_path / "data.parquet")
    assert read_samples(tmp_path / "data.parquet").samples[0].target == "The capital of France is Paris."


def test_a_folder_is_read_whole_without_its_readme(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"question": "1", "answer": "one"}])
    (tmp_path / "b.csv").write_text("prompt,completion\n2,two\n")
    (tmp_path / "README.txt").write_text("Notes.")
    (tmp_path / "mapping.txt").write_text("x")
    (tmp_path / ".hidden.jsonl").write_text("{")
    data = read_samples(tmp_path)
    assert [sample.target for sample in data.samples] == ["one", "two"]
    assert data.format == "jsonl: question/answer pairs, csv: prompt/completion pairs"
    assert [source.path.name for source in data.sources] == ["a.jsonl", "b.csv"]


def test_json_forms(tmp_path: Path) -> None:
    row = {"question": "1", "answer": "one"}
    texts = {
        "array.json": json.dumps([row]),
        "array.jsonl": json.dumps([row], indent=1),
        "inner.json": json.dumps({"version": 1, "data": [row]}, indent=2),
        "lines.json": json.dumps(row) + "\n" + json.dumps(row) + "\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert read_samples(tmp_path / name).samples[0].messages == question("1", "one"), name
    assert len(read_samples(tmp_path / "lines.json").samples) == 2
    assert read_samples(tmp_path / "inner.json").samples[0].place == "inner.json:4"


def test_gzip(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "data.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(PLAIN) + "\n")
    assert read_samples(tmp_path / "data.jsonl.gz").samples[0].target == "The capital of France is Paris."


def test_named_fields_groups_and_other_columns(tmp_path: Path) -> None:
    rows = [{"id": 7, "ticket": "broken", "queue": "repair", "customer": 3, "when": "2026", "answer": "?"}]
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    data = read_samples(path, input_field="ticket", target_field="queue", group_field="customer", task="classify")
    (sample,) = data.samples
    assert sample.messages == question("broken", "repair")
    assert (sample.id, sample.group, sample.meta) == ("7", "3", {"when": "2026", "answer": "?"})
    assert data.task == "classify"


def test_one_named_field_is_enough_where_the_other_is_known(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{"question": "a", "answer": "b", "short": "c"}])
    assert read_samples(path, target_field="short").samples[0].messages == question("a", "c")


def test_structured_answers_become_json_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{"input": "Ann, 31", "output": {"name": "Ann", "tags": ["é"]}}])
    assert read_samples(path).samples[0].target == '{"name": "Ann", "tags": ["é"]}'


def test_only_the_first_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"question": name * (n + 1), "answer": "x"} for n in range(5)])
    data = read_samples(tmp_path, max_rows=7)
    assert [sample.input_text for sample in data.samples] == ["a", "aa", "aaa", "aaaa", "aaaaa", "b", "bb"]
    assert data.num_rows == 7


def test_repeated_short_answers_are_classes(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "answer": ("yes", "no")[n % 2]} for n in range(20)]
    assert read_samples(write_jsonl(tmp_path / "a.jsonl", rows)).task == "classify"
    assert read_samples(write_jsonl(tmp_path / "b.jsonl", rows), task="chat").task == "chat"
    free = [{"question": f"q{n}", "answer": f"answer {n}"} for n in range(20)]
    assert read_samples(write_jsonl(tmp_path / "c.jsonl", free)).task == "chat"


def test_prompt_as_messages_and_completion_as_messages(tmp_path: Path) -> None:
    row = {"prompt": PLAIN["messages"][:2], "completion": PLAIN["messages"][2:]}
    path = write_jsonl(tmp_path / "data.jsonl", [row])
    assert read_samples(path).samples[0].to_json()["messages"] == PLAIN["messages"]


def test_content_parts_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Hello"}]}
    assert read_samples(write_jsonl(tmp_path / "data.jsonl", [row])).samples[0].input_text == "Hi there"


def test_conversations_and_raw_text_do_not_mix(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [PLAIN])
    (tmp_path / "b.txt").write_text("Once.\n")
    with pytest.raises(DataError, match="conversations and raw text together"):
        read_samples(tmp_path)


def test_paths_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no data file"):
        read_samples(tmp_path / "nowhere.jsonl")
    with pytest.raises(NotFound, match="no data files in"):
        read_samples(tmp_path)
    (tmp_path / "data.xlsx").write_bytes(b"PK")
    with pytest.raises(NotFound, match="cannot tell its format") as caught:
        read_samples(tmp_path / "data.xlsx")
    assert ".jsonl" in caught.value.fix


def test_real_files_are_recognised(shared_data: Path) -> None:
    expected = {
        "alpaca_52k/alpaca_data.json": ("json: alpaca", "chat"),
        "banking77/train.csv": ("csv: text/category labelled text", "classify"),
        "dialogsum/dialogsum.dev.jsonl": ("jsonl: dialogue/summary pairs", "chat"),
        "e2e_cleaning/cleaned-data": ("csv: mr/ref pairs", "chat"),
        "gsm8k/test.jsonl": ("jsonl: question/answer pairs", "chat"),
        "tweeteval_sentiment/val_text.txt": ("pair: text/label labelled text", "classify"),
        "wikitext2_valid_test/valid.txt": ("text: raw text (text)", "text"),
    }
    for name, answer in expected.items():
        data = read_samples(shared_data / name, max_rows=1500)
        assert (data.format, data.task) == answer, name


def test_cleaned_alpaca_keeps_all_but_its_empty_answers(shared_data: Path) -> None:
    path = shared_data / "alpaca_52k" / "alpaca_data.json"
    rows = json.loads(path.read_text(encoding="utf-8"))[:2000]
    data = read_samples(path, max_rows=2000)
    assert len(data.samples) == sum(bool(row["output"].strip()) for row in rows) == 1996
    (warning,) = data.warnings
    assert warning.startswith("4 of 2000 rows have an empty answer and are left out")
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    sample = data.samples[700]
    line = int(sample.place.rpartition(":")[2])
    assert json.loads("\n".join(lines[line - 1 : line + 4]).rstrip(","))["output"] == sample.target
