"""Chat templates: rendering, generation spans, and refusals with a reason."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from foretune.data.samples import Message
from foretune.data.template import DEFAULT_TEMPLATE, ChatTemplate
from foretune.errors import DataError

TALK = (
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    Message("user", "Why?"),
    Message("assistant", "Because."),
)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}U:{{ m.content }}{% endif %}\n{% endfor %}"
)


def test_generation_blocks_become_spans_of_the_text() -> None:
    rendered = ChatTemplate(MARKED, {"eos_token": "</s>"}).render_spans(TALK)
    assert rendered.text == "U:HiA:Hello.</s>U:Why?A:Because.</s>"
    assert [rendered.text[start:end] for start, end in rendered.spans] == ["Hello.</s>", "Because.</s>"]


def test_a_template_without_marks_has_no_spans() -> None:
    template = ChatTemplate(DEFAULT_TEMPLATE, {"bos": "", "eos_token": "</s>"})
    assert not template.has_generation
    assert template.render_spans(TALK).spans == ()


def test_the_plain_form_keeps_content_as_it_is_and_ends_answers() -> None:
    template = ChatTemplate(DEFAULT_TEMPLATE, {"bos": "<s>", "eos_token": "</s>"})
    text = template.render((Message("system", " Be kind. "), *TALK[:2]))
    assert text == "<s>### System:\n Be kind. \n\n### User:\nHi\n\n### Assistant:\nHello.</s>"
    assert template.render(TALK[:1], add_generation_prompt=True) == "<s>### User:\nHi\n\n### Assistant:\n"


def test_private_marks_in_a_message_are_refused_not_taken_for_spans() -> None:
    template = ChatTemplate(MARKED, {"eos_token": "</s>"})
    with pytest.raises(DataError, match="U\\+10FFF0"):
        template.render((Message("user", "\U0010fff0"), TALK[1]))


def test_what_the_template_raises_names_the_roles() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {}, name="the chat template of x")
    with pytest.raises(DataError, match=re.escape("x refuses a conversation with the roles [user, assistant]: roles")):
        template.render(TALK[:2])


def test_a_broken_template_says_where() -> None:
    with pytest.raises(DataError, match="line 2"):
        ChatTemplate("ok\n{% if %}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].__init__.__globals__ }}",
    ],
)
def test_templates_are_sandboxed(source: str) -> None:
    with pytest.raises(DataError):
        ChatTemplate(source, {}).render(TALK)


def test_json_filter_keeps_characters_as_they_are() -> None:
    template = ChatTemplate("{{ messages[0] | tojson }}", {})
    assert template.render((Message("user", "<é>"),)) == '{"role": "user", "content": "<é>"}'
