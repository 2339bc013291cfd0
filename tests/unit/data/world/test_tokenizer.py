"""The tokenizer and its template: deterministic, loadable by transformers, equal to the streamed form."""
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path
from typing import Any

import pytest

from foretune.data.world import corpus, shards, tokenizer


@pytest.fixture(scope="module")
def trained() -> Any:
    return tokenizer.train_tokenizer(0, num_documents=1500, vocab_size=1024)


@pytest.fixture(scope="module")
def loaded(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("pebble")
    tokenizer.save_tokenizer(folder, trained)
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_training_is_deterministic(trained: Any) -> None:
    again = tokenizer.train_tokenizer(0, num_documents=1500, vocab_size=1024)
    assert again.to_str() == trained.to_str()


def test_special_tokens_come_first_and_digits_stand_alone(trained: Any) -> None:
    assert [trained.token_to_id(t) for t in tokenizer.SPECIAL_TOKENS] == list(range(6))
    assert trained.encode("order 48213.").tokens[-6:] == ["4", "8", "2", "1", "3", "."]


def test_any_text_survives_a_round_trip(trained: Any) -> None:
    text = 'Ünïcode "quotes"\n\ttabs  two spaces, {"a": 12.50} 日本 🙂'
    assert trained.decode(trained.encode(text).ids) == text


def test_render_equals_the_template(loaded: Any) -> None:
    chats = [d for d in corpus.documents(2, 150) if d.messages]
    for document in chats:
        assert loaded.apply_chat_template(list(document.messages), tokenize=False) == shards.render(document)


def test_prompt_is_a_prefix_of_the_whole(loaded: Any) -> None:
    for document in (d for d in corpus.documents(3, 60) if d.messages):
        messages = list(document.messages)
        prompt = loaded.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = loaded.apply_chat_template(messages, return_dict=True)["input_ids"]
        assert whole[: len(prompt)] == prompt
        assert loaded.decode(whole[len(prompt) :]) == messages[-1]["content"] + shards.END


def test_streamed_ids_and_mask_equal_those_of_transformers(loaded: Any, trained: Any) -> None:
    wanted = list(corpus.documents(5, 80))
    streamed = list(shards.masked_token_stream(5, trained, 80, batch_documents=32))
    assert len(streamed) == len(wanted)
    for document, got in zip(wanted, streamed, strict=True):
        if document.messages:
            known = loaded.apply_chat_template(
                list(document.messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            assert got.ids == known["input_ids"]
            assert [int(s) for s in got.said] == known["assistant_masks"]


def test_plain_text_is_said_in_full_but_for_its_first_token(trained: Any) -> None:
    texts = [d.text is not None for d in corpus.documents(6, 60)]
    for is_text, got in zip(texts, shards.masked_token_stream(6, trained, 60), strict=True):
        if is_text:
            assert got.said == [False] + [True] * (len(got.ids) - 1)


def test_stream_can_be_sharded(trained: Any) -> None:
    whole = list(shards.token_stream(9, trained, 50))
    assert list(shards.token_stream(9, trained, 25)) + list(shards.token_stream(9, trained, 25, start=25)) == whole


def test_saved_config_names_the_tokens(loaded: Any) -> None:
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == (shards.PAD, shards.BOS, shards.END)
    assert loaded.model_max_length == 512
    assert loaded.decode(loaded("hi <|end|> there")["input_ids"], skip_special_tokens=True) == "hi  there"
