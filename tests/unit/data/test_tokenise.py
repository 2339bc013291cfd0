"""Loss masks: exactly the answers are learned, or the rows are refused."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_tokenizer import CHATML, write_tokenizer
from foretune.data.samples import Message, Sample
from foretune.data.tokenise import TokenisedSample, prompt_ids, shown_mask, tokenise, tokenise_all
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError

NEWLINES = (("Ċ", "Ċ"), (".", "Ċ"), (".", "<"))
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(write_tokenizer(tmp_path_factory.mktemp("chatml"), merges=NEWLINES))


def talk(*contents: str, system: str = "", place: str = "data.jsonl:7") -> Sample:
    roles = itertools.cycle(("user", "assistant"))
    messages = [Message("system", system)] if system else []
    messages += [Message(role, content) for role, content in zip(roles, contents, strict=False)]
    return Sample("x", tuple(messages), place=place)


def learned(tokenised: TokenisedSample, tokenizer: Tokenizer) -> str:
    ids = [number for number, bit in zip(tokenised.ids, tokenised.loss_mask, strict=True) if bit]
    return tokenizer.decode(ids, skip_special=False)


@pytest.mark.req("R114")
def test_only_the_answer_and_its_end_are_learned(chatml: Tokenizer) -> None:
    result = tokenise(talk("Hi", "Yes, sir", system="Be kind."), chatml)
    assert learned(result, chatml) == "Yes, sir<|im_end|>"
    assert result.ids == chatml.encode(chatml.render(talk("Hi", "Yes, sir", system="Be kind.").messages))
    assert result.place == "data.jsonl:7"


@pytest.mark.req("R114")
def test_shown_mask_marks_what_is_learned(chatml: Tokenizer) -> None:
    shown = shown_mask(tokenise(talk("Hi", "é ok"), chatml), chatml)
    assert shown == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦é ok<|im_end|>⟧\n"


def test_every_answer_of_a_conversation_is_learned(chatml: Tokenizer) -> None:
    assert learned(tokenise(talk("Hi", "One", "And", "Two"), chatml), chatml) == "One<|im_end|>Two<|im_end|>"


def test_prompt_is_a_prefix_even_where_a_token_would_span_the_border(chatml: Tokenizer) -> None:
    sample = talk("Hi", "\nindented\n")
    assert chatml.encode("a\n\n") != chatml.encode("a\n") + chatml.encode("\n")
    result = tokenise(sample, chatml)
    prompt = prompt_ids(sample, chatml)
    assert result.ids[: len(prompt)] == prompt
    assert learned(result, chatml) == "\nindented\n<|im_end|>"
    assert chatml.decode(result.ids, skip_special=False) == chatml.render(sample.messages)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet="a.\n é<", min_size=1, max_size=6), min_size=2, max_size=6))
def test_mask_and_prefix_hold_for_any_text(chatml: Tokenizer, contents: list[str]) -> None:
    contents = contents[: len(contents) // 2 * 2]
    sample = talk(*contents)
    result = tokenise(sample, chatml)
    prompt = prompt_ids(sample, chatml)
    assert result.ids[: len(prompt)] == prompt
    assert chatml.decode(result.ids, skip_special=False) == chatml.render(sample.messages)
    last = chatml.decode(
        [number for number, bit in list(zip(result.ids, result.loss_mask, strict=True))[len(prompt) :] if bit], False
    )
    assert last == contents[-1] + "<|im_end|>"


def test_tokens_that_also_hold_template_text_are_not_learned(tmp_path: Path) -> None:
    """Without the special tokens `.<` is one token: it ends the first answer and begins the template's marker."""
    folder = write_tokenizer(tmp_path, specials=("</s>",), merges=NEWLINES, eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    result = tokenise(talk("Hi", "One.", "And", "Two."), tokenizer)
    assert learned(result, tokenizer) == "OneTwo.</s>"


def test_white_space_behind_an_answer_is_no_harm(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    merges = ((".", "Ċ"),)
    folder = write_tokenizer(tmp_path, template=template, specials=("</s>",), merges=merges, eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    assert learned(tokenise(talk("Hi", "One.", "And", "Two."), tokenizer), tokenizer) == "One.\nTwo.</s>"


def test_a_template_that_marks_no_end_gets_the_end_token(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, specials=("</s>",), eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    result = tokenise(talk("Hi", "Yes"), tokenizer)
    assert result.ids[-1] == tokenizer.eos_id
    assert learned(result, tokenizer) == "Yes</s>"


def test_generation_marks_give_the_same_mask(chatml: Tokenizer) -> None:
    sample = talk("Hi", "One", "And", "\nTwo")
    marked = chatml.with_template(MARKED)
    assert marked.template.has_generation
    assert tokenise(sample, marked) == tokenise(sample, chatml)


def test_generation_marks_may_prove_turns_that_rendering_cannot(chatml: Tokenizer) -> None:
    """A template that writes earlier answers differently (think blocks) is fine where it marks them."""
    think = MARKED.replace("{% generation %}{{ m", "{% generation %}{{ ('<think></think>' if loop.last else '') + m")
    sample = talk("Hi", "One", "And", "Two")
    assert learned(tokenise(sample, chatml.with_template(think)), chatml) == (
        "One<|im_end|><think></think>Two<|im_end|>"
    )
    unmarked = think.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(DataError, match="message 2 of 4"):
        tokenise(sample, chatml.with_template(unmarked))


def test_marks_without_the_end_token_are_completed(chatml: Tokenizer) -> None:
    source = MARKED.replace(
        "{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}",
        "{{ m.content }}{% endgeneration %}{{ '<|im_end|>\\n' }}",
    )
    assert learned(tokenise(talk("Hi", "Yes"), chatml.with_template(source)), chatml) == "Yes<|im_end|>"


def test_marks_that_begin_in_the_header_are_cut_to_what_inference_must_produce(chatml: Tokenizer) -> None:
    source = CHATML.replace(
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}",
        "{{ '<|im_start|>' }}{% if message.role == 'assistant' %}{% generation %}{{ 'assistant\\n' + message.content + "
        "'<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}"
        "{{ message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endif %}",
    )
    tokenizer = chatml.with_template(source)
    assert tokenizer.template.has_generation
    assert learned(tokenise(talk("Hi", "Yes"), tokenizer), tokenizer) == "Yes<|im_end|>"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (CHATML.replace("{% if add_gen", "{{ 'tail' }}{% if add_gen"), "the generation prompt is not a prefix"),
        (CHATML.replace("message['content']", "message['content'] | upper"), "drops or rewrites the answer"),
        (CHATML.replace("message['content']", "message['content'][:2]"), "drops or rewrites the answer"),
        (MARKED.replace("{{ m.content + '<|im_end|>' }}", "{{ '<|im_end|>' }}"), "marks leave out the answer"),
        (MARKED.replace("m.role == 'assistant'", "m.role == 'user'"), "marks leave out the answer"),
        (MARKED.replace("m.role == 'assistant'", "true"), "marks 2 generated spans for 1 answers"),
    ],
)
def test_what_cannot_be_proved_is_refused(chatml: Tokenizer, template: str, why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        tokenise(talk("Hi", "Yes, sir"), chatml.with_template(template))
    (fault,) = caught.value.faults
    assert (fault.file, fault.line) == ("data.jsonl", 7)
    assert "message 2 of 2" in str(caught.value)
    assert caught.value.fix


def test_a_pretty_printed_template_is_recognised(chatml: Tokenizer) -> None:
    pretty = CHATML.replace("{{", "\n    {{").replace("{% e", "\n{% e").replace("{% if", "\n{% if")
    with pytest.raises(DataError) as caught:
        tokenise(talk("Hi", "Yes"), chatml.with_template(pretty))
    assert "pretty-printed" in caught.value.fix


def test_every_row_that_fails_is_named_in_few_lines(chatml: Tokenizer) -> None:
    bad = chatml.with_template(CHATML.replace("{% if add_gen", "{{ 'tail' }}{% if add_gen"))
    samples = [talk("Hi", "Yes", place=f"data.jsonl:{line}") for line in range(1, 1201)]
    with pytest.raises(DataError) as caught:
        tokenise_all(samples, bad)
    assert len(caught.value.faults) == 1200
    assert str(caught.value).startswith("1200 faults")
    assert "data.jsonl:5:" in str(caught.value)
    assert "data.jsonl:6:" not in str(caught.value)
    assert "and 1195 more like these in lines 6-1200" in str(caught.value)


@pytest.mark.req("R126")
def test_answers_that_would_be_cut_off_are_dropped_and_counted(chatml: Tokenizer) -> None:
    samples = [talk("Hi", "short"), talk("Hi", "long " * 20, place="data.jsonl:9"), talk("Yo", "short")]
    limit = len(tokenise(samples[0], chatml).ids)
    data = tokenise_all(samples, chatml, max_seq_len=limit)
    assert (data.num_dropped_too_long, data.places, data.indices) == (1, ["data.jsonl:9"], [0, 2])
    assert all(len(sample.ids) <= limit for sample in data.samples)
    cut = tokenise(samples[1], chatml, max_seq_len=limit)
    assert cut.answer_cut
    assert cut.num_dropped_tokens == len(tokenise(samples[1], chatml).ids) - limit
    assert len(cut.ids) == len(cut.loss_mask) == limit


def test_losing_only_what_stands_behind_the_answer_is_no_cut(chatml: Tokenizer) -> None:
    whole = tokenise(talk("Hi", "Yes"), chatml)
    assert whole.loss_mask[-1] == 0
    cut = tokenise(talk("Hi", "Yes"), chatml, max_seq_len=len(whole.ids) - 1)
    assert (cut.num_dropped_tokens, cut.answer_cut) == (1, False)


def test_no_second_begin_token(tmp_path: Path) -> None:
    folder = write_tokenizer(
        tmp_path,
        template="{{ bos_token }}" + CHATML,
        specials=("<|im_start|>", "<|im_end|>", "<|pad|>", "<s>"),
        bos_token="<s>",
    )
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenise(talk("Hi", "Yes"), tokenizer).ids.count(tokenizer.bos_id or -1) == 1


def test_raw_text_is_learned_whole_between_begin_and_end(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, specials=("<s>", "</s>"), bos_token="<s>", eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    sample = Sample("t", text="ab\n")
    result = tokenise(sample, tokenizer, max_seq_len=100)
    assert result.ids == [tokenizer.bos_id, *tokenizer.encode("ab\n"), tokenizer.eos_id]
    assert result.loss_mask == [0, 1, 1, 1, 1]
    assert prompt_ids(sample, tokenizer) == [tokenizer.bos_id]


def test_long_raw_text_becomes_rows_with_nothing_lost(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, specials=("</s>",), eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    data = tokenise_all([Sample("t", text="x" * 25), Sample("u", text="y")], tokenizer, max_seq_len=10)
    assert [len(sample.ids) for sample in data.samples] == [10, 10, 6, 2]
    assert data.indices == [0, 0, 0, 1]
    ids = [number for sample in data.samples[:3] for number in sample.ids]
    assert ids == [*tokenizer.encode("x" * 25), tokenizer.eos_id]
    assert all(sample.loss_mask[0] == 0 and sum(sample.loss_mask) == len(sample.ids) - 1 for sample in data.samples)


def test_training_on_all_learns_every_token_but_the_first(chatml: Tokenizer) -> None:
    result = tokenise(talk("Hi", "Yes"), chatml, train_on="all")
    assert result.loss_mask == [0] + [1] * (len(result.ids) - 1)


def test_a_conversation_without_an_answer_is_refused(chatml: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:7.*no assistant message"):
        tokenise(talk("Hi"), chatml)


def test_batches_give_what_single_rows_give(chatml: Tokenizer) -> None:
    samples = [talk("Hi", "\nYes" * (n % 5 + 1), "more", "ok.") for n in range(40)]
    assert tokenise_all(samples, chatml).samples == [tokenise(sample, chatml) for sample in samples]
