"""Token shards: the text, the whole text and nothing but the text, in order, with little memory."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import foretune
from byte_tokenizer import write_tokenizer
from foretune.data.token_shards import (
    ShardIndex,
    are_tokens_ready,
    check_has_rows,
    is_shard_folder,
    open_shards,
    write_shards,
)
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError, DataError, NotFound

TEXTS = [f"Document {number} says that {number} times {number} is {number * number}." for number in range(2500)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(Path(foretune.__file__).parent / "models" / "pebble")


def _whole(tokenizer: Tokenizer) -> list[int]:
    return [token for ids in tokenizer.encode_batch(TEXTS) for token in [*ids, tokenizer.eos_id]]


def test_every_token_in_order(tmp_path, tokenizer):
    index = write_shards(iter(TEXTS), tokenizer, tmp_path / "tokens", shard_tokens=10_000)
    shards = open_shards(tmp_path / "tokens", tokenizer)
    whole = _whole(tokenizer)
    assert np.concatenate(shards.arrays).tolist() == whole
    assert index.num_tokens == len(whole) == sum(shard.num_tokens for shard in index.shards)
    assert index.num_documents == len(TEXTS)
    assert {shard.num_tokens for shard in index.shards[:-1]} == {10_000}
    assert index.token_bytes == 2
    shards.check()


def test_the_cut_into_shards_is_the_same_however_documents_are_batched(tmp_path, tokenizer, monkeypatch):
    first = write_shards(TEXTS, tokenizer, tmp_path / "one", shard_tokens=7777)
    monkeypatch.setattr("foretune.data.token_shards.BATCH_DOCUMENTS", 13)
    assert write_shards(TEXTS, tokenizer, tmp_path / "two", shard_tokens=7777).version == first.version


def test_windows_cover_all_and_validation_is_the_end(tmp_path, tokenizer):
    write_shards(TEXTS, tokenizer, tmp_path, shard_tokens=10_001)
    train, validation = open_shards(tmp_path, tokenizer).windows(128, validation_fraction=0.05, most_validation=9)
    assert len(validation) == 9
    pieces = [train[i] for i in range(len(train))] + [validation[i] for i in range(len(validation))]
    joined = np.concatenate(pieces)
    whole = _whole(tokenizer)
    left_out = len(whole) - len(joined)  # a rest of one token predicts nothing
    assert 0 <= left_out <= len(whole) // 10_001 + 1
    assert joined.tolist()[:10_000] == whole[:10_000]
    assert pieces[0].dtype == np.int32
    assert max(map(len, pieces)) == 128


def test_at_least_one_row_each(tmp_path, tokenizer):
    write_shards(["short"], tokenizer, tmp_path)
    with pytest.raises(DataError, match="training and validation need one each"):
        open_shards(tmp_path, tokenizer).windows(128, validation_fraction=0.1, most_validation=9)


def test_a_job_on_tokens_has_no_rows_to_audit_or_plan_by(tmp_path, tokenizer):
    write_shards(TEXTS[:5], tokenizer, tmp_path / "tokens")
    with pytest.raises(ConfigError, match=r"data\.path tokens holds tokens, not rows"):
        check_has_rows("tokens", tmp_path)
    check_has_rows("rows.jsonl", tmp_path)


def test_nothing_is_written_over(tmp_path, tokenizer):
    write_shards(TEXTS[:5], tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="holds token shards already"):
        write_shards(TEXTS, tokenizer, tmp_path)


def test_a_folder_is_shards_once_it_is_finished(tmp_path, tokenizer):
    def broken():
        yield from TEXTS[:1500]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(broken(), tokenizer, tmp_path, shard_tokens=500)
    assert not is_shard_folder(tmp_path)
    write_shards(TEXTS, tokenizer, tmp_path, shard_tokens=500)
    assert are_tokens_ready(tmp_path.name, tmp_path.parent)
    assert are_tokens_ready("world", tmp_path)
    assert not are_tokens_ready("rows.jsonl", tmp_path)


def test_another_tokenizer_a_cut_and_a_changed_file_are_named(tmp_path, tokenizer):
    write_shards(TEXTS, tokenizer, tmp_path, shard_tokens=10_000)
    with pytest.raises(DataError, match="tokenised by another tokenizer"):
        open_shards(tmp_path, Tokenizer.from_folder(write_tokenizer(tmp_path / "other")))
    path = tmp_path / "tokens-00001.bin"
    content = bytearray(path.read_bytes())
    content[77] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="has changed since it was written"):
        open_shards(tmp_path, tokenizer).check()
    path.write_bytes(content[:-2])
    with pytest.raises(DataError, match="holds 19998 bytes, 20000 expected"):
        open_shards(tmp_path, tokenizer)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_shards(tmp_path, tokenizer)


def test_no_text_and_no_folder(tmp_path, tokenizer):
    with pytest.raises(DataError, match="no text"):
        write_shards([], tokenizer, tmp_path)
    with pytest.raises(NotFound, match=ShardIndex.file_name):
        open_shards(tmp_path, tokenizer)
