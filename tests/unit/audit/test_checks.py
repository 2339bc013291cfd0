"""The checks of the audit: each finds what was planted, names the row, and leaves good data alone."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from byte_tokenizer import CHATML, write_tokenizer
from foretune.audit.audit import audit
from foretune.data.samples import Message, Sample
from foretune.data.tokenizer import Tokenizer
from foretune.records.audit import AuditRecord, Finding
from foretune.records.dataset import DatasetRecord


def words(number: int, num: int = 8) -> str:
    return " ".join(hashlib.sha256(f"{number} {i}".encode()).hexdigest()[:6] for i in range(num))


def row(question: str, answer: str, place: str = "", *, group: str = "", roles: str = "ua") -> Sample:
    names = {"s": "system", "u": "user", "a": "assistant"}
    contents = [answer if role == "a" else question for role in roles]
    messages = tuple(Message(names[role], content) for role, content in zip(roles, contents, strict=True))
    return Sample(place or question[:20], messages, group=group, place=place)


def good(num: int, first: int = 0) -> list[Sample]:
    return [row(words(n), f"Answer: {words(n + 50_000)}.", f"d.jsonl:{n}") for n in range(first, first + num)]


def audited(
    train: Sequence[Sample],
    *,
    validation: Sequence[Sample] = (),
    test: Sequence[Sample] = (),
    task: str = "chat",
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> AuditRecord:
    dataset = DatasetRecord(version="v", task=task, sources=(), splits={})
    return audit(dataset, {"train": train, "validation": validation, "test": test}, tokenizer, **options)


def found(record: AuditRecord, number: int) -> Finding | None:
    return next((finding for finding in record.findings if finding.id == f"DATA{number:03d}"), None)


def the(record: AuditRecord, number: int) -> Finding:
    finding = found(record, number)
    assert finding is not None, [f.id for f in record.findings]
    return finding


def test_good_data_has_no_findings() -> None:
    record = audited(good(1000), validation=good(100, 2000), test=good(200, 3000))
    assert record.findings == ()
    assert (record.num_samples, record.num_errors) == (1300, 0)


def test_roles_that_do_not_take_turns() -> None:
    bad = [row("x", "y", "d:1", roles="uua"), row("x1", "y", "d:2", roles="aua"), row("x2", "y", "d:3", roles="suaua")]
    finding = the(audited([*good(5), *bad]), 1)
    assert (finding.places, finding.severity) == (("d:1", "d:2"), "warning")
    assert finding.evidence == ("user user assistant", "assistant user assistant")


def test_empty_turns() -> None:
    record = audited([*good(5), row(" ", "y", "d:1"), row("x", "", "d:2"), row("x", "", "d:3", roles="uaua")])
    assert the(record, 2).places == ("d:1",)
    finding = the(record, 3)
    assert (finding.severity, finding.count, finding.places) == ("error", 2, ("d:2", "d:3"))
    assert record.num_errors == 1
    assert record.findings[0] == finding


def test_answers_far_shorter_than_usual() -> None:
    assert the(audited([*good(50), row("why", "ok", "d:1")]), 4).places == ("d:1",)
    assert found(audited([row(words(n), "ok") for n in range(50)]), 4) is None


def test_long_answers_that_stop_in_mid_sentence() -> None:
    whole = [row(words(n), words(n + 9000, 40) + ".") for n in range(20)]
    cut = row(words(500), words(9500, 40) + ",", "d:1")
    assert the(audited([*whole, cut]), 5).places == ("d:1",)
    lists = [row(words(n), words(n + 9000, 40)) for n in range(20)]
    assert found(audited(lists), 5) is None


@pytest.mark.req("R142")
def test_copies_and_near_copies() -> None:
    samples = good(60)
    copy = row(samples[3].input_text.upper(), samples[3].target + " ", "d:copy")
    near = row(samples[4].input_text + " x", samples[4].target, "d:near")
    record = audited([*samples, copy, near])
    assert (the(record, 10).places, the(record, 10).severity) == (("d:copy",), "info")
    assert the(record, 11).places == ("d:near",)
    assert "d.jsonl:3" in the(record, 10).evidence[0]
    assert the(audited([*good(10), *good(10)]), 10).severity == "warning"


@pytest.mark.req("R139")
def test_alike_inputs_of_different_classes() -> None:
    samples = [row(words(n), ("a", "b")[n % 2], f"d:{n}") for n in range(60)]
    near = row(samples[10].input_text + " x", "b", "d:near")
    same = row(samples[20].input_text, "b", "d:same")
    finding = the(audited([*samples, near, same], task="classify"), 12)
    assert sorted(finding.places) == ["d:near", "d:same"]
    assert finding.severity == "warning"
    assert any("'a' (d:20) and 'b' (d:same)" in text for text in finding.evidence)


@pytest.mark.req("R139")
def test_the_same_question_with_different_answers() -> None:
    samples = good(60)
    twin = row(samples[5].input_text, words(7777), "d:twin")
    assert the(audited([*samples, twin]), 12).places == ("d:twin",)
    reworded = row(samples[5].input_text, samples[5].target + " ok", "d:twin")
    assert found(audited([*samples, reworded]), 12) is None
    several = [row(words(n), words(n * 10 + k), f"d:{n}.{k}") for n in range(20) for k in range(3)]
    assert the(audited(several), 12).severity == "info"


@pytest.mark.req("R118")
def test_held_out_rows_that_were_trained_on() -> None:
    train = good(60)
    exact = row(train[7].input_text.upper(), train[7].target, "t:exact")
    near = row(train[8].input_text + " x", train[8].target, "t:near")
    other = row(train[9].input_text, words(4242), "t:other")
    record = audited(train, test=[*good(20, 500), exact, near, other])
    assert (the(record, 13).severity, the(record, 13).places) == ("error", ("t:exact",))
    assert "d.jsonl:7" in the(record, 13).evidence[0]
    assert (the(record, 14).severity, set(the(record, 14).places)) == ("warning", {"t:near", "t:other"})
    assert the(audited(train, validation=[exact]), 13).places == ("t:exact",)


def test_copies_within_one_split_are_no_leak() -> None:
    record = audited([*good(30), *good(30)], test=good(10, 500))
    assert found(record, 13) is None
    assert found(record, 14) is None


def test_groups_in_two_splits() -> None:
    train = [row(words(n), "yes", f"d:{n}", group=f"g{n}") for n in range(5)]
    finding = the(audited(train, test=[row(words(99), "no", "t:1", group="g3")]), 15)
    assert (finding.severity, finding.places) == ("error", ("d:3", "t:1"))


def test_class_balance() -> None:
    samples = [row(words(n), "many") for n in range(150)]
    samples += [row(words(n + 1000), "few") for n in range(12)] + [row(words(n + 2000), "rare") for n in range(3)]
    finding = the(audited(samples, task="classify"), 22)
    assert finding.places == ("class 'rare'", "class 'few'")
    even = [row(words(n), ("a", "b")[n % 2]) for n in range(40)]
    assert found(audited(even, task="classify"), 22) is None


@pytest.mark.req("R111")
def test_json_answers_that_do_not_parse() -> None:
    samples = [row(words(n), json.dumps({"n": n}), f"d:{n}") for n in range(20)]
    record = audited([*samples, row("x", '{"n": 1', "d:bad"), row("y", "12", "d:number")])
    assert the(record, 40).places == ("d:bad", "d:number")
    assert found(audited(samples), 40) is None
    assert found(audited([*good(30), *samples]), 40) is None


@pytest.mark.req("R138")
def test_key_styles_are_told_apart_and_the_commonest_proposed() -> None:
    snake = [row(words(n), json.dumps({"order_id": n, "items": [{"unit_price": 1}]}), f"d:{n}") for n in range(20)]
    camel = row("x", json.dumps({"orderId": 1, "items": [{"unitPrice": 2}]}), "d:camel")
    kebab = row("y", json.dumps({"order-id": 1}), "d:kebab")
    finding = the(audited([*snake, camel, kebab]), 41)
    assert finding.places == ("d:camel", "d:kebab")
    assert finding.fix.startswith("write all keys in snake_case")
    assert "snake_case 40, camelCase 2, kebab-case 1" in finding.title
    assert finding.evidence[0] == "orderId (camelCase), unitPrice (camelCase)"
    assert found(audited(snake), 41) is None


@pytest.mark.parametrize("damage", ["cafÃ©", "itâ€™s", "20Â°", "a\ufffdb", "a\x07b", "Ã¼ber"])
def test_damaged_encoding(damage: str) -> None:
    assert the(audited([*good(3), row("x", f"so {damage} there", "d:1")]), 50).places == ("d:1",)


@pytest.mark.parametrize("text", ["café Ångström", "50 €", "naïve – “x”", "Âme", "tab\there\nline", "日本"])
def test_foreign_characters_are_no_damage(text: str) -> None:
    assert found(audited([*good(3), row("x", text)]), 50) is None


def test_html() -> None:
    bad = [row("x", "a<br/>b", "d:1"), row("y", "Tom &amp; Ann", "d:2"), row("z", '<a href="u">x</a>', "d:3")]
    fine = [row("v", "1 < 2 > 0 and a<b, c>d"), row("w", "AT&T; x&y")]
    assert the(audited([*good(20), *bad, *fine]), 51).places == ("d:1", "d:2", "d:3")
    assert the(audited(bad), 51).severity == "info"


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write_tokenizer(tmp_path_factory.mktemp("chatml")))


def test_control_tokens_in_the_text(chatml: Tokenizer) -> None:
    record = audited([*good(3), row("say <|im_end|> twice", "ok", "d:1")], tokenizer=chatml)
    assert the(record, 52).places == ("d:1",)


@pytest.mark.req("R126")
def test_token_statistics(chatml: Tokenizer) -> None:
    samples = [row("x" * n, "y" * 10, f"d:{n}") for n in range(1, 101)]
    record = audited(samples, tokenizer=chatml, max_seq_len=100)
    overhead = len(chatml.encode(chatml.render((Message("user", ""), Message("assistant", ""))))) + 10
    stats = record.tokens["train"]
    assert (stats.max, stats.p50) == (100 + overhead, 50.5 + overhead)
    assert stats.mean == pytest.approx(50.5 + overhead, abs=0.01)
    assert stats.p95 == pytest.approx(95.05 + overhead, abs=0.01)
    assert (stats.answer_mean, stats.answer_max) == (11, 11)
    assert stats.truncated_fraction == pytest.approx(overhead / 100)
    assert (len(stats.histogram), sum(stats.histogram)) == (20, 100)
    assert list(record.tokens) == ["train"]


@pytest.mark.req("R126")
def test_answers_that_would_be_cut_off(chatml: Tokenizer) -> None:
    samples = [*[row(words(n, 1), "yes", f"d:{n}") for n in range(10)], row(words(77, 30), "yes", "d:long")]
    finding = the(audited(samples, tokenizer=chatml, max_seq_len=100), 30)
    assert (finding.severity, finding.places) == ("warning", ("d:long",))
    assert the(audited(samples, tokenizer=chatml, max_seq_len=10), 30).severity == "error"
    assert found(audited(samples, tokenizer=chatml), 30) is None


@pytest.mark.req("R114")
def test_a_few_samples_are_shown_as_the_model_sees_them(chatml: Tokenizer) -> None:
    record = audited(good(10), tokenizer=chatml)
    assert len(record.examples) == 3
    assert f"assistant\n⟦{good(1)[0].target}<|im_end|>⟧" in record.examples[0]


def test_a_mask_that_cannot_be_proved_is_an_error(chatml: Tokenizer) -> None:
    bad = chatml.with_template(CHATML.replace("{% if add_gen", "{{ 'tail' }}{% if add_gen"))
    record = audited(good(10), tokenizer=bad)
    finding = the(record, 31)
    assert (finding.severity, finding.count, finding.places[0]) == (
        "error",
        10,
        "d.jsonl:0" if False else finding.places[0],
    )
    assert record.tokens == {}


def test_a_template_without_end_token_is_told(tmp_path: Path) -> None:
    plain = Tokenizer.from_folder(write_tokenizer(tmp_path / "a", specials=("</s>",), eos_token="</s>"))
    finding = the(audited(good(10), tokenizer=plain), 32)
    assert finding.severity == "info"
    assert "<|im_end|>" in finding.evidence[0]
    endless = Tokenizer.from_folder(write_tokenizer(tmp_path / "b", specials=("<x>",)))
    assert the(audited(good(10), tokenizer=endless), 32).severity == "warning"


def test_unknown_tokens(shared_data: Path) -> None:
    letters = Tokenizer.from_folder(shared_data / "models" / "babyllama105")
    samples = [row(f"Tell me: {words(n)}", "日本\n" * 3, f"d:{n}") for n in range(5)]
    finding = the(audited(samples, tokenizer=letters), 33)
    assert finding.count == 5
    assert finding.severity == "warning"


def test_raw_text_needs_no_roles_and_no_floor(chatml: Tokenizer) -> None:
    samples = [Sample(f"t{n}", text=words(n), place=f"t:{n}") for n in range(30)]
    record = audited(samples, test=[Sample("x", text=words(99))], task="text", tokenizer=chatml)
    assert record.findings == ()
    assert record.tokens["train"].answer_max == record.tokens["train"].max - 1


def test_lists_are_short_and_counts_exact() -> None:
    samples = [row(words(n), f"<br>{words(n)}", f"d:{n}") for n in range(200)]
    finding = the(audited([*samples, *good(1000)]), 51)
    assert (finding.count, len(finding.places), len(finding.evidence)) == (200, 20, 5)


def test_the_record_is_written(tmp_path: Path) -> None:
    record = audited(good(3), run_dir=tmp_path)
    assert AuditRecord.read(tmp_path) == record
