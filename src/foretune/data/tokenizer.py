"""The tokenizer of a model folder, without torch: ids, special tokens, chat template and stop tokens."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from foretune.data.samples import Message
from foretune.data.template import DEFAULT_TEMPLATE, ChatTemplate, Rendered
from foretune.errors import DataError, NotFound

__all__ = ["Tokenizer"]

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LENGTH_KEYS = ("max_position_embeddings", "n_positions", "n_ctx")
NO_LIMIT = 10**9  # files write 1e30 where there is no limit
END_OF_TEXT = "<|endoftext|>"
ANSWER = "Qx7mark"  # stands for an answer while the template's end of turn is looked up


class Tokenizer:
    """Text to token ids and back, and messages to text, exactly as the model was trained.

    Build one with `from_folder`. Ids are ints in [0, vocab_size).
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, config: dict[str, Any], model: dict[str, Any], *, name: str, digest: str
    ) -> None:
        self.backend = backend
        self.name = name
        self.files_digest = digest
        self.fingerprint = _digest(digest, config.get("chat_template"))
        self._model = model
        self._specials = _special_tokens(config, backend)
        _add_missing_tokens(backend, config, self._specials)
        self.max_len = _max_len(config, model)
        self._use_template(config.get("chat_template"))

    def _use_template(self, source: str | None) -> None:
        self.has_chat_template = bool(source)
        variables = dict(self._specials)
        if not source:
            source = DEFAULT_TEMPLATE
            variables.setdefault("eos_token", "")
            variables["bos"] = self._specials.get("bos_token", "") if self._adds_bos else ""
        self.template = ChatTemplate(source, variables, name=f"the chat template of {self.name}")

    def with_template(self, source: str | None) -> Tokenizer:
        """The same tokens with another chat template; None is foretune's plain form. Raises DataError if invalid."""
        other = object.__new__(Tokenizer)
        own = {key: value for key, value in vars(self).items() if key not in ("turn_suffix", "turn_end", "stop_ids")}
        vars(other).update(own)
        other._use_template(source)
        other.fingerprint = _digest(self.files_digest, source)
        return other

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a Hugging Face model folder. Raises NotFound where it has none, DataError if it is broken.

        Reads `tokenizer.json`, or `vocab.json` + `merges.txt` (GPT-2 style), and what stands beside them:
        `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja`, `config.json`,
        `generation_config.json`.
        """
        folder = Path(path)
        backend, digest = _read_backend(folder)
        config = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
        config["chat_template"] = _chat_template(folder, config)
        model = {**_read_json(folder / "config.json"), **_read_json(folder / "generation_config.json")}
        return cls(backend, config, model, name=folder.name or str(folder), digest=digest)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def _id_of(self, name: str) -> int | None:
        text = self._specials.get(name)
        return None if text is None else self.backend.token_to_id(text)

    @cached_property
    def bos_id(self) -> int | None:
        """The token that begins a text, if the model has one."""
        return self._id_of("bos_token")

    @cached_property
    def eos_id(self) -> int | None:
        """The token that ends a text, if the model has one."""
        return self._id_of("eos_token")

    @cached_property
    def unk_id(self) -> int | None:
        """The token that stands for text which the vocabulary cannot spell, if the model has one."""
        return self._id_of("unk_token")

    @cached_property
    def pad_is_eos(self) -> bool:
        """Whether padding falls back on the end-of-text token; masks must then come from lengths, never from ids."""
        return self._id_of("pad_token") is None

    @cached_property
    def pad_id(self) -> int:
        """The padding token: the model's own, else its end-of-text token, else 0 (padding is always masked)."""
        own = self._id_of("pad_token")
        if own is not None:
            return own
        return self.eos_id if self.eos_id is not None else 0

    @cached_property
    def added_ids(self) -> dict[str, int]:
        """Every token that is matched whole in text (special and other added ones), by its text."""
        return {token.content: number for number, token in self.backend.get_added_tokens_decoder().items()}

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Texts of the special tokens; inside a message they would be read as control tokens."""
        decoder = self.backend.get_added_tokens_decoder()
        return tuple(token.content for token in decoder.values() if token.special and token.content)

    @cached_property
    def turn_suffix(self) -> str | None:
        """What the template puts after the last answer (`<|im_end|>\\n`); None where it cannot be found."""
        messages = (Message("user", "Hello"), Message("assistant", ANSWER))
        try:
            text = self.render(messages)
        except DataError:
            return None
        return text.rpartition(ANSWER)[2] if ANSWER in text else None

    @cached_property
    def turn_end(self) -> tuple[str, int] | None:
        """The end-of-turn token of the template with the text up to and including it.

        None where the template marks no end, or marks it by a text that is not one token here (some tokenizers match
        `</s>` only at the beginning of a text); then the end-of-text token is learned in its place.
        """
        suffix = self.turn_suffix or ""
        found = [(suffix.find(text), -len(text), number) for text, number in self.added_ids.items() if text in suffix]
        if not found:
            return None
        start, negative_length, number = min(found)
        ending = suffix[: start - negative_length]
        is_whole = all(self.encode(answer + ending)[-1] == number for answer in (ANSWER, "Yes."))
        return (ending, number) if is_whole else None

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: end of text, the model's own list, and the template's end of turn; sorted."""
        listed = self._model.get("eos_token_id")
        ids = {number for number in (listed if isinstance(listed, list) else [listed]) if isinstance(number, int)}
        if self.eos_id is not None:
            ids.add(self.eos_id)
        if self.turn_end is not None:
            ids.add(self.turn_end[1])
        return tuple(sorted(ids))

    @cached_property
    def _adds_bos(self) -> bool:
        bos = self._id_of("bos_token")
        return bos is not None and self.backend.encode("a").ids[:1] == [bos]

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids of a text; `add_special` lets the tokenizer put its own begin and end tokens around it."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=add_special).ids
        return ids

    def encode_batch(self, texts: Sequence[str], add_special: bool = False) -> list[list[int]]:
        """Token ids of many texts at once, in all cores."""
        return [item.ids for item in self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special)]

    def encodings(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Encodings of many texts with character offsets, without special tokens."""
        return self.backend.encode_batch(list(texts), add_special_tokens=False)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of token ids."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    def token_text(self, number: int) -> str:
        """The raw vocabulary entry of one id."""
        return self.backend.id_to_token(number) or ""

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False, tools: str = "") -> str:
        """The conversation as text, by the model's chat template or foretune's plain form. Raises DataError."""
        return self.template.render(messages, add_generation_prompt=add_generation_prompt, tools=tools)

    def render_spans(self, messages: Sequence[Message], tools: str = "") -> Rendered:
        """The conversation as text with the spans that the template marks as generated."""
        return self.template.render_spans(messages, tools=tools)


def _digest(files_digest: str, template: str | None) -> str:
    return hashlib.sha256(f"{files_digest}\0{template or DEFAULT_TEMPLATE}".encode()).hexdigest()


def _read_backend(folder: Path) -> tuple[tokenizers.Tokenizer, str]:
    """The tokenizer with all padding and truncation off, and a hash of the files it came from."""
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    if whole.is_file():
        backend, files = _loaded(whole), [whole]
    elif vocab.is_file() and merges.is_file():
        backend, files = _byte_level_bpe(vocab, merges), [vocab, merges]
    else:
        raise _no_tokenizer(folder)
    backend.no_truncation()
    backend.no_padding()
    _keep_white_space_in_offsets(backend)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return backend, digest.hexdigest()


def _keep_white_space_in_offsets(backend: tokenizers.Tokenizer) -> None:
    """Let offsets cover the white space of their tokens, which some files trim off; ids do not change."""
    processor = backend.post_processor
    state = processor.__getstate__() if processor is not None else b""
    if b'"trim_offsets":true' in state:
        processor.__setstate__(state.replace(b'"trim_offsets":true', b'"trim_offsets":false'))
        backend.post_processor = processor


def _loaded(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise _broken(path, error) from None


def _byte_level_bpe(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    from tokenizers import decoders, models, pre_tokenizers

    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:
        raise _broken(merges, error) from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _broken(path: Path, error: Exception) -> DataError:
    """The tokenizers library raises bare Exception for every broken file; anything narrower goes through."""
    if type(error) is not Exception:
        raise error
    return DataError(f"{path}: the tokenizer cannot be read: {error}", fix="download the model's tokenizer again")


def _no_tokenizer(folder: Path) -> NotFound:
    if not folder.is_dir():
        return NotFound(f"no model folder {folder}", fix="give a folder that holds config.json and tokenizer.json")
    old = folder / "tokenizer.model"
    if old.is_file():
        line = f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
        return NotFound(
            f"{folder} holds only tokenizer.model, expected tokenizer.json",
            fix=f'python -c "from transformers import AutoTokenizer; {line}"   # converts it',
        )
    return NotFound(
        f"{folder} has no tokenizer: expected tokenizer.json, or vocab.json with merges.txt",
        fix=f"copy tokenizer.json and tokenizer_config.json of the same model into {folder}",
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}", fix=f"download {path.name} again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: a JSON object was expected, got {type(value).__name__}", fix="download it again")
    return value


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """`chat_template.jinja`, else `chat_template.json`, else the entry in `tokenizer_config.json` (or its default)."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    entry = _read_json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(entry, list):
        named = {item.get("name"): item.get("template") for item in entry if isinstance(item, dict)}
        entry = named.get("default") or next(iter(named.values()), None)
    return entry if isinstance(entry, str) and entry else None


def _special_tokens(config: dict[str, Any], backend: tokenizers.Tokenizer) -> dict[str, str]:
    """Special tokens by name; a GPT-2 vocabulary without a config has one token for begin and end."""
    texts = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str) and text:
            texts[name] = text
    if not texts and backend.token_to_id(END_OF_TEXT) is not None:
        texts = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    return texts


def _add_missing_tokens(backend: tokenizers.Tokenizer, config: dict[str, Any], specials: dict[str, str]) -> None:
    """Tokens that the config names and `tokenizer.json` lacks, in the order of their ids, as transformers adds them."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder")
    for _, item in sorted((listed or {}).items(), key=lambda pair: int(pair[0])):
        content = item.get("content", "")
        if content and content not in known:
            flags = {key: bool(item.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}
            backend.add_tokens([AddedToken(content, **flags)])
            known.add(content)
    missing = [text for text in dict.fromkeys(specials.values()) if text not in known]
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])


def _max_len(config: dict[str, Any], model: dict[str, Any]) -> int | None:
    """The longest input in tokens that tokenizer and model allow; None where neither says."""
    limits = [config.get("model_max_length")]
    if model.get("model_type") not in ("t5", "mt5", "umt5", "bloom"):
        limits += [model.get(key) for key in LENGTH_KEYS]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < NO_LIMIT]
    return min(known) if known else None
