"""What other servers read: our plain form and stop tokens, held equal to transformers' own reading of the files."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from byte_tokenizer import write_tokenizer
from foretune.data.samples import Message
from foretune.data.served_files import served_files
from foretune.data.tokenizer import Tokenizer

TALK = (Message("system", "Be kind."), Message("user", "Hi,\n you"), Message("assistant", "Yes."))


@pytest.mark.parametrize("specials", [("<s>", "</s>"), ("</s>",), ()])
@pytest.mark.parametrize("adds_begin", [True, False])
def test_transformers_asks_in_the_form_of_training(specials: tuple[str, ...], adds_begin: bool, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    named = {"bos_token": "<s>", "eos_token": "</s>"}
    config = {name: text for name, text in named.items() if text in specials}
    folder = write_tokenizer(tmp_path, template=None, specials=specials, **config)
    if adds_begin and "<s>" in specials:
        backend = Backend.from_file(str(folder / "tokenizer.json"))
        number = backend.token_to_id("<s>")
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
        backend.save(str(folder / "tokenizer.json"))
    ours = Tokenizer.from_folder(folder)
    files = served_files(ours, {"temperature": 0.6})
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **config)
    messages = [message.to_json() for message in TALK]
    for asked in (False, True):
        cut = messages[:-1] if asked else messages
        text = theirs.apply_chat_template(
            cut, chat_template=files["chat_template.jinja"], tokenize=False, add_generation_prompt=asked
        )
        assert text == ours.render(TALK[: len(cut)], add_generation_prompt=asked)
    again = Tokenizer.from_folder(folder)
    assert again.has_chat_template and again.render(TALK) == ours.render(TALK) and again.stop_ids == ours.stop_ids
    settings = json.loads(files["generation_config.json"])
    assert settings["temperature"] == 0.6
    assert settings.get("eos_token_id") == (ours.eos_id if "</s>" in specials else None)


def test_the_models_own_template_stays_as_it_is(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write_tokenizer(tmp_path))
    files = served_files(tokenizer, {"eos_token_id": 5})
    assert files["chat_template.jinja"] == tokenizer.template.source
    assert json.loads(files["generation_config.json"])["eos_token_id"] == tokenizer.stop_ids[0]
