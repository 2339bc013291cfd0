"""Bad input: one clear error or warning each, with file, line, value, expectation and fix; never a traceback."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.faults import RejectedRows
from foretune.data.formats import read_samples
from foretune.data.split import split_samples
from foretune.errors import DataError

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def line(value: Any) -> str:
    return json.dumps(value) + "\n"


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def faults_of(path: Path, **options: Any) -> list[tuple[int, str]]:
    """Line and text of every fault; each error must be of exit code 3 and say how to mend it."""
    with pytest.raises(DataError) as caught:
        read_samples(path, **options)
    assert caught.value.exit_code == 3
    assert caught.value.fix
    assert all(fault.file == str(path) for fault in caught.value.faults)
    return [(fault.line, str(fault)) for fault in caught.value.faults]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    ((number, text),) = faults_of(write(tmp_path / name, ""))
    assert number == 0
    assert "the file is empty" in text


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n \n"), ("a.csv", "text,label\n"), ("a.json", "[]")])
def test_file_without_rows(tmp_path: Path, name: str, content: str) -> None:
    ((_, text),) = faults_of(write(tmp_path / name, content))
    assert "expected at least one row" in text


def test_one_row_is_read_but_cannot_be_split(tmp_path: Path) -> None:
    data = read_samples(write(tmp_path / "a.jsonl", line(GOOD)))
    assert len(data.samples) == 1
    with pytest.raises(DataError, match="1 row cannot be split into train, test, validation: expected at least 3"):
        split_samples(data.samples)


def test_ten_megabyte_line(tmp_path: Path) -> None:
    long = chat({"role": "user", "content": "x" * 10_000_000}, {"role": "assistant", "content": "y"})
    path = write(tmp_path / "a.jsonl", line(GOOD) + line(long) + line(GOOD))
    ((number, text),) = faults_of(path)
    assert number == 2
    assert "10.0 MB" in text
    assert len(text) < 400


def test_long_line_of_an_array_is_told_by_its_row(tmp_path: Path) -> None:
    half = chat({"role": "user", "content": "x" * 2_500_000}, {"role": "assistant", "content": "y"})
    assert len(read_samples(write(tmp_path / "ok.json", json.dumps([half, half]))).samples) == 2
    long = chat({"role": "user", "content": "x" * 5_000_000}, {"role": "assistant", "content": "y"})
    ((_, text),) = faults_of(write(tmp_path / "a.json", json.dumps([GOOD, long])))
    assert "the row is too long" in text


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_wrong_encoding_names_byte_line_and_iconv(tmp_path: Path, name: str) -> None:
    head = "text,label\nok,x\n" if name == "a.csv" else line(GOOD) * 2
    bad = b"caf\xe9,x\n"
    ((number, text),) = faults_of(write(tmp_path / name, head.encode() + bad + head.splitlines()[-1].encode()))
    assert number == 3
    assert "byte 4" in text
    assert "0xe9" in text
    assert f"iconv -f WINDOWS-1252 -t UTF-8 {tmp_path / name}" in text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_one_fault(tmp_path: Path, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    ((number, text),) = faults_of(write(tmp_path / "a.jsonl", mark + (line(GOOD) * 5).encode(encoding)))
    assert number == 0
    assert "iconv -f UTF-16 -t UTF-8" in text


def test_nul_bytes(tmp_path: Path) -> None:
    ((number, text),) = faults_of(write(tmp_path / "a.jsonl", line(GOOD) + "{\0}\n" + line(GOOD)))
    assert number == 2
    assert "NUL byte at byte 2" in text
    assert "tr -d" in text


def test_byte_order_mark_and_crlf_are_no_faults(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + (line(GOOD) * 2).replace("\n", "\r\n").encode()
    data = read_samples(write(tmp_path / "a.jsonl", content))
    assert [sample.target for sample in data.samples] == ["Hello", "Hello"]
    data = read_samples(write(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\r\na,x\r\nb,y\r\n"))
    assert [sample.target for sample in data.samples] == ["x", "y"]
    data = read_samples(write(tmp_path / "a.txt", b"\xef\xbb\xbfOne.\r\n\r\nTwo.\r\n"))
    assert [sample.text for sample in data.samples] == ["One.", "Two."]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (chat({"content": "Hi"}, {"role": "assistant", "content": "Hello"}), "message 1 has no role"),
        (chat({"role": "robot", "content": "Hi"}, {"role": "assistant", "content": "x"}), "unknown role, got 'robot'"),
        (chat({"role": "tool", "content": "1"}, {"role": "assistant", "content": "x"}), "no call is before it"),
        (chat({"role": "user"}, {"role": "assistant", "content": "x"}), "message 1 has no content"),
        (chat({"role": "user", "content": 5}, {"role": "assistant", "content": "x"}), "content is no text"),
        (chat("Hi", {"role": "assistant", "content": "x"}), "message 1 is no object"),
        (chat({"role": "user", "content": "Hi"}), "no assistant message"),
        (chat({"role": "assistant", "content": "Hi"}), "no user message"),
        (chat(*GOOD["messages"], {"role": "user", "content": "Hi"}), "last message is not the assistant's"),
        (chat(*GOOD["messages"][:1], {"role": "system", "content": "x"}, GOOD["messages"][1]), "not first"),
        (chat(GOOD["messages"][0], {"role": "assistant", "content": ""}), "the answer is empty (message 2)"),
        (chat(GOOD["messages"][0], {"role": "assistant", "content": " \n"}), "the answer is empty"),
        (chat(GOOD["messages"][0], {"role": "assistant", "content": None}), "the answer is empty"),
        (chat(GOOD["messages"][0], {"role": "assistant", "content": None, "tool_calls": [1]}), "no list of calls"),
        (chat(), "is no conversation"),
        ({"messages": "Hi"}, "is no conversation"),
        ({"text": "Hi"}, "is no conversation"),
        ([1, 2], "not a JSON object"),
        ("Hi", "not a JSON object"),
    ],
)
def test_faults_of_a_row(tmp_path: Path, row: Any, what: str) -> None:
    found = faults_of(write(tmp_path / "a.jsonl", line(GOOD) * 3 + line(row) + line(GOOD)))
    assert [number for number, _ in found] == [4] * len(found)
    assert any(what in text for _, text in found), found


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", line(GOOD) + '{"prompt": "a", "completion": "b \\ud83d c"}\n')
    ((number, text),) = faults_of(path, input_field="prompt", target_field="completion")[-1:]
    assert number == 2
    assert "half a character in `completion`" in text


def test_all_faults_of_a_file_at_once_with_an_exact_count(tmp_path: Path) -> None:
    rows = [line(GOOD) if n % 2 else line(chat({"role": "user", "content": "Hi"})) for n in range(240)]
    with pytest.raises(DataError) as caught:
        read_samples(write(tmp_path / "a.jsonl", "".join(rows)))
    assert len(caught.value.faults) == 120
    text = str(caught.value)
    assert text.startswith("120 faults in ")
    assert text.count("no assistant message") == 5
    assert "and 115 more like these in lines 11, 13, 15, " in text and text.endswith("..., 239")


def test_sixty_equal_faults_are_a_few_lines_and_every_one_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "".join(f"{json.dumps(GOOD)},\n" for _ in range(60)))
    with pytest.raises(DataError) as caught:
        read_samples(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 7 and "and 55 more like these in lines 6-60" in text
    assert [fault.line for fault in caught.value.faults] == list(range(1, 61))


def test_many_kinds_of_faults_are_cut_and_counted(tmp_path: Path) -> None:
    rows = [f'{{"a{chr(97 + n % 26)}{chr(97 + n // 26)}": 1}}\n' for n in range(120)]
    with pytest.raises(DataError) as caught:
        read_samples(write(tmp_path / "a.jsonl", line({"prompt": "a", "completion": "b"}) + "".join(rows)))
    assert len(str(caught.value).splitlines()) <= 55 and len(caught.value.faults) >= 120


def test_faults_of_all_files_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "{\n")
    write(tmp_path / "b.csv", "text,text\n1,2\n")
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path)
    assert {Path(fault.file).name for fault in caught.value.faults} == {"a.jsonl", "b.csv"}


def test_broken_json_names_the_column(tmp_path: Path) -> None:
    ((number, text),) = faults_of(write(tmp_path / "a.jsonl", line(GOOD) + '{"messages": [}\n'))
    assert number == 2
    assert "not valid JSON at column 15" in text


def test_broken_json_array_names_the_line(tmp_path: Path) -> None:
    text = json.dumps([GOOD, GOOD], indent=1).replace('"Hello"', "Hello", 1)
    ((number, shown),) = faults_of(write(tmp_path / "a.json", text))
    assert text.splitlines()[number - 1].strip() == '"content": Hello'
    assert "not valid JSON" in shown


def test_json_that_is_nested_beyond_reason(tmp_path: Path) -> None:
    ((number, text),) = faults_of(write(tmp_path / "a.jsonl", line(GOOD) + "[" * 200_000 + "\n"))
    assert number == 2
    assert "JSON" in text


def test_json_that_holds_no_rows(tmp_path: Path) -> None:
    ((_, text),) = faults_of(write(tmp_path / "a.json", '{"a": 1}'))
    assert "not an array of rows" in text


@pytest.mark.parametrize(
    ("content", "number", "what"),
    [
        ("text,label\na,b,c\n", 2, "wrong number of columns, got 3, expected 2 (text, label)"),
        ("text,label\na,x\nb\n", 3, "wrong number of columns"),
        ("text,text\na,b\n", 1, "column names are missing or repeated"),
        ('text,label\n"a,x\nb,y\n', 2, "not valid CSV"),
        ('text,label\n"a" b,x\n', 2, "not valid CSV"),
        ("How are you?,fine\nb,y\n", 2, "the form of the rows is not known"),
    ],
)
def test_faults_of_csv(tmp_path: Path, content: str, number: int, what: str) -> None:
    found = faults_of(write(tmp_path / "a.csv", content))
    assert found[0][0] == number
    assert what in found[0][1]


def test_csv_goes_on_after_a_faulty_row(tmp_path: Path) -> None:
    found = faults_of(write(tmp_path / "a.csv", 'text,label\n"a" b,x\nok,x\nc\n'))
    assert [number for number, _ in found] == [2, 4]


def test_damaged_parquet_and_gzip(tmp_path: Path) -> None:
    ((_, text),) = faults_of(write(tmp_path / "a.parquet", b"PAR1 nothing more"))
    assert "not valid Parquet" in text
    ((_, text),) = faults_of(write(tmp_path / "a.jsonl.gz", b"\x1f\x8b\x08\x00broken"))
    assert "cannot be read" in text


def test_missing_fields_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", line({"q": "1", "a": "2"}) + line({"q": "1"}))
    ((number, text),) = faults_of(path)
    assert number == 1
    assert "data.input_field" in text
    ((number, text),) = faults_of(path, input_field="q", target_field="a")
    assert number == 2
    assert "no field `a`" in text


def test_missing_groups_are_named(tmp_path: Path) -> None:
    rows = line({**GOOD, "who": "x"}) + line(GOOD) + line({**GOOD, "who": None})
    found = faults_of(write(tmp_path / "a.jsonl", rows), group_field="who")
    assert [number for number, _ in found] == [2, 3]


def test_preference_pairs_are_refused_by_name(tmp_path: Path) -> None:
    ((_, text),) = faults_of(write(tmp_path / "a.jsonl", line({"chosen": "a", "rejected": "b"})))
    assert "preference pairs" in text


def test_raw_text_where_answers_are_needed(tmp_path: Path) -> None:
    ((_, text),) = faults_of(write(tmp_path / "a.jsonl", line({"text": "Once."})), task="chat")
    assert "raw text has no answers" in text


def test_labels_that_do_not_fit_their_texts(tmp_path: Path) -> None:
    write(tmp_path / "x_labels.txt", "0\n1\n7\n")
    write(tmp_path / "mapping.txt", "0\tbad\n1\tgood\n")
    path = write(tmp_path / "x_text.txt", "a\nb\n")
    ((_, text),) = faults_of(path)
    assert "2 texts, expected as many as the 3 labels" in text
    write(path, "a\nb\nc\n")
    with pytest.raises(DataError, match=r"x_labels\.txt:3: unknown label, got '7', expected 0, 1"):
        read_samples(path)


def test_duplicate_ids_are_told_and_made_different(tmp_path: Path) -> None:
    rows = "".join(line({**GOOD, "id": name}) for name in ("a", "b", "a", "a#2"))
    data = read_samples(write(tmp_path / "a.jsonl", rows))
    assert len({sample.id for sample in data.samples}) == 4
    assert [sample.id for sample in data.samples][:2] == ["a", "b"]
    (warning,) = data.warnings
    assert warning.startswith("1 rows repeat an id ('a')")


def test_few_empty_answers_are_left_out_with_a_warning_many_are_faults(tmp_path: Path) -> None:
    empty = line(chat(GOOD["messages"][0], {"role": "assistant", "content": ""}))
    data = read_samples(write(tmp_path / "a.jsonl", line(GOOD) * 150 + empty))
    assert len(data.samples) == 150
    assert data.num_rows == 151
    (warning,) = data.warnings
    assert "a.jsonl:151" in warning
    assert len(faults_of(write(tmp_path / "b.jsonl", line(GOOD) * 50 + empty * 2))) == 2


def test_answers_that_are_not_to_be_learned_keep_their_weight(tmp_path: Path) -> None:
    skipped = {"role": "assistant", "content": "x", "weight": 0}
    row = chat(GOOD["messages"][0], skipped, *GOOD["messages"])
    (sample,) = read_samples(write(tmp_path / "a.jsonl", line(row))).samples
    assert [message.learn for message in sample.messages] == [True, False, True, True]
    ((_, text),) = faults_of(write(tmp_path / "b.jsonl", line(chat(GOOD["messages"][0], skipped))))
    assert "every answer has weight 0" in text
    ((_, text),) = faults_of(write(tmp_path / "c.jsonl", line(chat(GOOD["messages"][0], {**skipped, "weight": 0.5}))))
    assert "unknown weight, got 0.5, expected 0 or 1" in text


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("foretune.data.files._open", refuse)
    ((_, text),) = faults_of(write(tmp_path / "a.jsonl", line(GOOD)))
    assert "cannot be read (Permission denied)" in text


def test_mixed_encodings_name_each_line(tmp_path: Path) -> None:
    good = '{"prompt": "Zürich", "completion": "ja"}\n'
    path = write(
        tmp_path / "a.jsonl", good.encode() + good.encode("latin-1") + good.encode() + good.encode("utf-16-le")
    )
    found = faults_of(path)
    assert [number for number, _ in found][:2] == [2, 4]
    assert "0xfc" in found[0][1]


def test_nested_nulls(tmp_path: Path) -> None:
    rows = [
        {"messages": None},
        {"messages": [None]},
        {"messages": [{"role": None, "content": None}]},
        {"messages": [{"role": "user", "content": [None]}, {"role": "assistant", "content": [{"text": None}]}]},
    ]
    found = faults_of(write(tmp_path / "a.jsonl", line(GOOD) * 3 + "".join(map(line, rows))))
    assert sorted({number for number, _ in found}) == [4, 5, 6, 7]
    nulls = {**GOOD, "tools": None, "id": None, "note": None}
    (sample,) = read_samples(write(tmp_path / "b.jsonl", line(nulls))).samples
    assert (sample.id, sample.meta, sample.tools) == ("b-1", {}, "")


def test_numbers_where_text_is_expected(tmp_path: Path) -> None:
    rows = line({"question": "pi?", "answer": 3.14}) + line({"question": 7, "answer": True})
    data = read_samples(write(tmp_path / "a.jsonl", rows))
    assert [(s.input_text, s.target) for s in data.samples] == [("pi?", "3.14"), ("7", "true")]
    row = chat({"role": "user", "content": "pi?"}, {"role": "assistant", "content": 3.14})
    ((_, text),) = faults_of(write(tmp_path / "b.jsonl", line(row)))
    assert "message 2: content is no text, got 3.14, expected text" in text


@pytest.mark.parametrize("ending", [",\n", ",}\n", " ,\r\n"])
def test_trailing_commas_are_named(tmp_path: Path, ending: str) -> None:
    text = line(GOOD).strip()
    bad = (text[:-1] if "}" in ending else text) + ending
    ((number, shown),) = faults_of(write(tmp_path / "a.jsonl", line(GOOD) + bad + line(GOOD)))
    assert number == 2
    assert "a comma before the closing bracket" in shown if "}" in ending else "a comma behind the object" in shown
    assert "take the" in shown


def test_hidden_and_reversing_characters_are_kept_and_shown_escaped(tmp_path: Path) -> None:
    odd = "a\u202eb\u200bc\ufeff"
    row = {"prompt": odd, "completion": odd}
    (sample,) = read_samples(write(tmp_path / "a.jsonl", json.dumps(row, ensure_ascii=False) + "\n")).samples
    assert (sample.input_text, sample.target) == (odd, odd)
    ((_, text),) = faults_of(write(tmp_path / "b.jsonl", line(chat({"role": odd, "content": "x"}))))
    assert "\\u202e" in text and "\u202e" not in text


def test_a_csv_whose_columns_change_keeps_its_good_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,x\nb,y,z\nc\n\nd,w\n")
    assert [number for number, _ in faults_of(path)] == [3, 4]
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        data = read_samples(path, rejected=rejected)
    assert [sample.target for sample in data.samples] == ["x", "w"]
    assert [json.loads(text)["raw"] for text in rejected.path.read_text().splitlines()] == ["b,y,z", "c"]


def test_an_open_quote_costs_one_row_of_a_csv(tmp_path: Path) -> None:
    rows = "".join(f"row {number},x\n" for number in range(1000))
    path = write(tmp_path / "a.csv", f'text,label\n"open,x\n{rows}')
    with RejectedRows(tmp_path / "rejected.jsonl") as rejected:
        data = read_samples(path, rejected=rejected)
    assert len(data.samples) == 1000
    assert rejected.num_rows == 1


def test_parquet_with_nested_lists(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"messages": [[["user", "Hi"], ["assistant", "Hello"]]]}), path)
    found = faults_of(path)
    assert all("is no object, got ['" in text for _, text in found)
    parquet.write_table(pyarrow.table({"text": [[[1, 2], [3]]], "label": ["x"]}), path)
    assert read_samples(path).samples[0].input_text == "[[1, 2], [3]]"
    parquet.write_table(
        pyarrow.table({"prompt": pyarrow.array([b"\xff"], pyarrow.binary()), "completion": ["x"]}), path
    )
    assert "no text" in faults_of(path)[0][1]


def test_numbers_beyond_reason(tmp_path: Path) -> None:
    row = '{"prompt": "a", "completion": "b", "n": %s}\n'
    found = faults_of(write(tmp_path / "a.jsonl", row % 1 + row % ("1" * 5000)))
    assert found[0][0] == 2
    data = read_samples(write(tmp_path / "b.jsonl", row % "NaN" + row % "-Infinity"))
    assert [sample.meta for sample in data.samples] == [{}, {}]
