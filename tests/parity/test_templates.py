"""Our tokenizer and chat templates against transformers': the same ids and the same text, on real ones."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foretune.data.samples import Message, Sample
from foretune.data.tokenise import TokenisedSample, prompt_ids, tokenise
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError

TOKENIZERS = ("gpt2", "pythia", "llama2", "llama3", "qwen2.5")
MODELS = ("stories260K", "babyllama105")
TEXTS = (
    "Hello world",
    "  two  spaces ",
    "\n\nnewlines\r\n",
    "",
    "ünïcödé e\u0301 日本語 🙂👩‍👩‍👧",
    "<s>special</s> <|endoftext|> <|im_end|><|eot_id|>",
    "a\tb 1234567 don't I'LL",
    "    indented code\n        more",
    "x" * 60,
)
TALKS: dict[str, list[tuple[str, str]]] = {
    "one turn": [("user", "Hi <b>there</b>, you?"), ("assistant", " Hello.\nYes. ")],
    "system": [("system", "Be kind."), ("user", "Hi"), ("assistant", '{"a": 1}')],
    "two turns": [
        ("system", " Sys "),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Why?"),
        ("assistant", "\n\nBecause.\n\nSo. "),
    ],
}


def folder_of(shared_data: Path, name: str) -> Path:
    return shared_data / ("models" if name in MODELS else "tokenizers") / name


def templates(shared_data: Path) -> dict[str, str]:
    """The templates as they are meant to be used: pretty-printed ones without their line breaks and indents."""
    path = shared_data / "chat_templates" / "chat_templates.json"
    sources = {name: entry["chat_template"] for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
    is_raw = {name: "{%-" in source or name.endswith("-tokenizer") for name, source in sources.items()}
    flat = {name: source.replace("    ", "").replace("\n", "") for name, source in sources.items()}
    return {name: source if is_raw[name] else flat[name] for name, source in sources.items()}


def conversation(name: str) -> Sample:
    return Sample(name, tuple(Message(role, content) for role, content in TALKS[name]), place=f"{name}:1")


def learned(tokenised: TokenisedSample, tokenizer: Tokenizer) -> str:
    ids = [number for number, bit in zip(tokenised.ids, tokenised.loss_mask, strict=True) if bit]
    return tokenizer.decode(ids, skip_special=False)


@pytest.fixture(scope="module", params=[*TOKENIZERS, *MODELS])
def pair(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Tokenizer, Any]:
    """Our tokenizer and transformers' of one folder."""
    from transformers import AutoTokenizer

    folder = folder_of(shared_data, request.param)
    return Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.req("R124")
@pytest.mark.req("R125")
def test_ids_and_special_tokens_are_those_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for text in TEXTS:
        for add_special in (False, True):
            assert ours.encode(text, add_special) == theirs(text, add_special_tokens=add_special)["input_ids"], text
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert (ours.vocab_size, ours.bos_id, ours.eos_id) == (len(theirs), theirs.bos_token_id, theirs.eos_token_id)
    assert ours.pad_id == (theirs.eos_token_id if theirs.pad_token_id is None else theirs.pad_token_id)
    assert ours.added_ids == theirs.added_tokens_encoder


def test_gpt2_from_vocab_and_merges_alone(shared_data: Path, tmp_path: Path) -> None:
    source = folder_of(shared_data, "gpt2")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    built, whole = Tokenizer.from_folder(tmp_path), Tokenizer.from_folder(source)
    assert [built.encode(text) for text in TEXTS] == [whole.encode(text) for text in TEXTS]
    assert (built.bos_id, built.eos_id, built.pad_id) == (50256, 50256, 50256)


@pytest.mark.parametrize("pair", ["gpt2", "llama3", "llama2"], indirect=True)
def test_every_template_renders_as_in_transformers(pair: tuple[Tokenizer, Any], shared_data: Path) -> None:
    ours, theirs = pair
    raw = json.loads((shared_data / "chat_templates" / "chat_templates.json").read_text(encoding="utf-8"))
    num_compared = 0
    for name, flat in templates(shared_data).items():
        for source in {flat, raw[name]["chat_template"]}:
            tokenizer = ours.with_template(source)
            for talk in map(conversation, TALKS):
                chat = [message.to_json() for message in talk.messages]
                for prompt in (False, True):
                    want = theirs.apply_chat_template(
                        chat, tokenize=False, add_generation_prompt=prompt, chat_template=source
                    )
                    assert tokenizer.render(talk.messages, prompt) == want, name
                    num_compared += 1
    assert num_compared >= 20 * len(TALKS) * 2


@pytest.mark.parametrize("pair", ["qwen2.5"], indirect=True)
def test_what_transformers_refuses_is_refused(pair: tuple[Tokenizer, Any], shared_data: Path) -> None:
    """Without a begin token `bos_token + text` cannot be rendered by either."""
    import jinja2

    ours, theirs = pair
    source = templates(shared_data)["vicuna"]
    talk = conversation("one turn")
    with pytest.raises(jinja2.UndefinedError):
        theirs.apply_chat_template([m.to_json() for m in talk.messages], tokenize=False, chat_template=source)
    with pytest.raises(DataError, match="'bos_token' is undefined"):
        ours.with_template(source).render(talk.messages)


@pytest.mark.req("R114")
@pytest.mark.parametrize("pair", TOKENIZERS, indirect=True)
def test_every_template_gets_a_proved_mask(pair: tuple[Tokenizer, Any], shared_data: Path) -> None:
    """The prompt is a prefix of the ids, the last answer is learned to its end, and nothing of the prompt is."""
    base, _ = pair
    num_proved = 0
    for name, source in templates(shared_data).items():
        if base.bos_id is None and "bos_token +" in source.replace("loop.index0 == 0 %}{% set content = bos", "bos"):
            continue  # qwen2.5 has no begin token, so these cannot be rendered
        tokenizer = base.with_template(source)
        for talk in map(conversation, TALKS):
            result = tokenise(talk, tokenizer)
            prompt = prompt_ids(talk, tokenizer)
            assert result.ids[: len(prompt)] == prompt, name
            answer = tokenizer.decode(result.ids[len(prompt) :], skip_special=False)
            squeezed = "".join(talk.target.split())
            assert "".join(answer.split()).startswith(squeezed), name
            mask = result.loss_mask[len(prompt) :]
            end = mask.index(0) if 0 in mask else len(mask)
            assert end > 0 and not any(mask[end:]), name
            last = result.ids[len(prompt) + end - 1]
            assert last in tokenizer.stop_ids, (name, tokenizer.decode([last], False))
            earlier = [m.content for m in talk.messages if m.role != "assistant"]
            assert not any(text.strip() in learned(result, tokenizer) for text in earlier if len(text) > 3), name
            num_proved += 1
    assert num_proved >= 10 * len(TALKS)


@pytest.mark.parametrize("pair", ["llama3", "qwen2.5"], indirect=True)
def test_ids_with_a_known_end_token_are_those_of_apply_chat_template(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for talk in map(conversation, ("one turn", "system")):
        chat = [message.to_json() for message in talk.messages]
        assert tokenise(talk, ours).ids == theirs.apply_chat_template(chat, return_dict=False)


@pytest.mark.parametrize("pair", ["llama3"], indirect=True)
def test_exact_tokens_learned_with_llama3(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    assert learned(tokenise(conversation("two turns"), ours), ours) == "Hello.<|eot_id|>Because.\n\nSo.<|eot_id|>"
    assert ours.stop_ids == (128009,)


@pytest.mark.parametrize("pair", ["llama3"], indirect=True)
def test_assistant_marks_are_those_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    """A template with generation blocks: our mask equals `return_assistant_tokens_mask`."""
    ours, theirs = pair
    source = (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|eot_id|>' }}{% endgeneration %}"
        "{% else %}{{ m.content + '<|eot_id|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    )
    talk = Sample("x", tuple(Message(r, c.strip()) for r, c in TALKS["two turns"]))
    chat = [message.to_json() for message in talk.messages]
    want = theirs.apply_chat_template(chat, chat_template=source, return_dict=True, return_assistant_tokens_mask=True)
    result = tokenise(talk, ours.with_template(source))
    assert result.ids == want["input_ids"]
    assert result.loss_mask == want["assistant_masks"]


@pytest.mark.req("R431")
def test_gpt2_batches_have_a_pad_token(shared_data: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder_of(shared_data, "gpt2"))
    assert tokenizer.pad_is_eos
    assert tokenizer.pad_id == 50256


def test_an_end_token_that_the_tokenizer_cannot_match_is_learned_by_id(shared_data: Path) -> None:
    """This llama2 file matches `</s>` only at the beginning of a text, so the rendered text holds no end token."""
    tokenizer = Tokenizer.from_folder(folder_of(shared_data, "llama2"))
    assert tokenizer.encode("Yes.</s>")[-1] != tokenizer.eos_id
    assert tokenizer.turn_end is None
    result = tokenise(conversation("system"), tokenizer)
    assert result.ids[-1] == tokenizer.eos_id
    assert result.loss_mask[-1] == 1


def test_a_border_that_cannot_be_encoded_apart_is_refused(shared_data: Path) -> None:
    """This tokenizer puts a blank before every text, so an answer behind a trailing blank cannot stand alone."""
    template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer = Tokenizer.from_folder(folder_of(shared_data, "stories260K")).with_template(template)
    with pytest.raises(DataError, match="the tokens of the prompt are no prefix"):
        tokenise(Sample("x", (Message("user", "Hi"), Message("assistant", "the cat"))), tokenizer)
