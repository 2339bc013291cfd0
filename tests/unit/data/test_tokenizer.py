"""The tokenizer of a model folder: special tokens, stop tokens, and clear errors where it is not whole."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from byte_tokenizer import CHATML, write_tokenizer
from foretune.data.samples import Message
from foretune.data.tokenizer import Tokenizer
from foretune.errors import DataError, NotFound

TALK = (Message("user", "Hi"), Message("assistant", "Yes."))


def test_special_tokens_and_sizes(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path, model_max_length=512))
    assert tokenizer.vocab_size == 259
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 257, 258)
    assert not tokenizer.pad_is_eos
    assert tokenizer.max_len == 512
    assert tokenizer.has_chat_template
    assert tokenizer.turn_end == ("<|im_end|>", 257)
    assert tokenizer.stop_ids == (257,)


@pytest.mark.req("R431")
def test_padding_falls_back_on_the_end_token_and_says_so(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template=None, specials=("<|endoftext|>",), eos_token="<|endoftext|>")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.pad_is_eos
    assert tokenizer.pad_id == tokenizer.eos_id == 256


def test_encode_and_decode_are_inverse(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    for text in ("Hello\r\n", "é日本🙂", "  x  "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    texts = ["a", "", "bc"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.decode([*tokenizer.encode("Hi"), 257]) == "Hi"
    assert tokenizer.decode([*tokenizer.encode("Hi"), 257], skip_special=False) == "Hi<|im_end|>"


def test_stop_ids_gather_every_end(tmp_path: Path) -> None:
    folder = write_tokenizer(
        tmp_path, specials=("<|im_start|>", "<|im_end|>", "<|end|>", "<|pad|>"), eos_token="<|end|>"
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [258, 259]}))
    assert Tokenizer.from_folder(folder).stop_ids == (257, 258, 259)


def test_an_end_marker_that_is_no_token_is_not_taken_for_one(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, specials=("<|endoftext|>",), eos_token="<|endoftext|>")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.turn_suffix == "<|im_end|>\n"
    assert tokenizer.turn_end is None
    assert tokenizer.stop_ids == (256,)


def test_no_chat_template_means_the_plain_form(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template=None, specials=("</s>",), eos_token="</s>")
    tokenizer = Tokenizer.from_folder(folder)
    assert not tokenizer.has_chat_template
    assert tokenizer.render(TALK) == "### User:\nHi\n\n### Assistant:\nYes.</s>"


def test_template_file_beats_config_and_named_default_is_found(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    folder = write_tokenizer(tmp_path, template=None, chat_template=named)
    assert Tokenizer.from_folder(folder).render(TALK) == "plain"
    (folder / "chat_template.jinja").write_text("file")
    assert Tokenizer.from_folder(folder).render(TALK) == "file"


def test_special_tokens_map_is_read_and_missing_tokens_are_added(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template=None, specials=())
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.eos_id == 256
    assert tokenizer.encode("a<end>")[-1] == 256


def test_limit_of_the_model_counts(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, model_max_length=10**30)
    assert Tokenizer.from_folder(folder).max_len is None
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 64}))
    assert Tokenizer.from_folder(folder).max_len == 64


def test_fingerprint_changes_with_the_template(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    assert tokenizer.fingerprint == Tokenizer.from_folder(tmp_path).fingerprint
    assert tokenizer.fingerprint == tokenizer.with_template(CHATML).fingerprint
    assert tokenizer.fingerprint != tokenizer.with_template("other").fingerprint
    assert tokenizer.with_template("other").turn_suffix is None


@pytest.mark.req("R125")
def test_gpt2_style_files_without_tokenizer_json(tmp_path: Path) -> None:
    letters = sorted({*"helo wrd", "Ġ"})
    vocab = {char: number for number, char in enumerate([*letters, "he", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\n")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.eos_id == tokenizer.bos_id == tokenizer.pad_id == vocab["<|endoftext|>"]
    assert tokenizer.encode("hello")[0] == vocab["he"]
    assert tokenizer.decode(tokenizer.encode("hello world<|endoftext|>")) == "hello world"


@pytest.mark.req("R124")
def test_a_folder_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"expected tokenizer\.json") as caught:
        Tokenizer.from_folder(tmp_path)
    assert "copy tokenizer.json" in caught.value.fix
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(NotFound, match=r"only tokenizer\.model") as caught:
        Tokenizer.from_folder(tmp_path)
    assert "save_pretrained" in caught.value.fix


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model folder"):
        Tokenizer.from_folder(tmp_path / "nowhere")


def test_broken_files_are_data_errors(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer_config\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
