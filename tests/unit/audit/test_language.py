"""Languages: told apart by script and words, compared with the declared ones, odd rows named by family."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from foretune.audit.checks.language import declared_languages, language_mix, language_shares, row_languages
from foretune.data.languages import LANGUAGES, family_of, language_of
from foretune.errors import ConfigError
from planting import chats, subject_of

TEXTS = {
    "en": "Please explain to me how the new system works and what I should do first.",
    "de": "Bitte erklären Sie mir, wie das neue System funktioniert und was ich zuerst tun soll.",
    "fr": "Veuillez m'expliquer comment fonctionne le nouveau système et ce que je dois faire.",
    "es": "Por favor, explíqueme cómo funciona el nuevo sistema y qué debo hacer primero.",
    "pt": "Por favor, explique-me como funciona o novo sistema e o que não devo fazer.",
    "it": "Per favore, mi spieghi come funziona il nuovo sistema e che cosa devo fare per primo.",
    "nl": "Leg mij alstublieft uit hoe het nieuwe systeem werkt en wat ik eerst moet doen.",
    "sv": "Förklara för mig hur det nya systemet fungerar och vad jag ska göra först.",
    "fi": "Selitä minulle, miten uusi järjestelmä toimii ja mitä minun pitäisi tehdä ensin.",
    "pl": "Proszę mi wyjaśnić, jak działa nowy system i co powinienem zrobić najpierw.",
    "hu": "Kérem, magyarázza el, hogyan működik az új rendszer, és mit kell először tennem.",
    "tr": "Lütfen bana yeni sistemin nasıl çalıştığını ve önce ne yapmam gerektiğini açıklayın.",
    "id": "Tolong jelaskan kepada saya bagaimana sistem baru ini bekerja dan apa yang harus saya lakukan.",
    "vi": "Hãy giải thích cho tôi hệ thống mới hoạt động như thế nào và tôi phải làm gì trước.",
    "ro": "Vă rog să îmi explicați cum funcționează noul sistem și ce trebuie să fac.",
    "ru": "Пожалуйста, объясните мне, как работает новая система и что мне нужно сделать.",
    "uk": "Будь ласка, поясніть мені, як працює нова система і що мені потрібно зробити.",
    "bg": "Моля, обяснете ми как работи новата система и какво трябва да направя.",
    "el": "Παρακαλώ εξηγήστε μου πώς λειτουργεί το νέο σύστημα.",
    "he": "אנא הסבר לי כיצד פועלת המערכת החדשה.",
    "ar": "من فضلك اشرح لي كيف يعمل النظام الجديد وما الذي يجب أن أفعله أولاً.",
    "fa": "لطفاً به من توضیح دهید که سیستم جدید چگونه کار می‌کند.",
    "hi": "कृपया मुझे समझाएं कि नई प्रणाली कैसे काम करती है और मुझे क्या करना है।",
    "th": "โปรดอธิบายให้ฉันฟังว่าระบบใหม่ทำงานอย่างไร",
    "ko": "새로운 시스템이 어떻게 작동하는지 설명해 주세요.",
    "ja": "新しいシステムがどのように動作するか説明してください。",
    "zh": "请向我解释新系统是如何工作的。",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_a_sentence_tells_its_language(language: str, text: str) -> None:
    assert language_of(text) == language
    assert language in LANGUAGES
    assert family_of(language_of(text, is_sure=True)) in ("", family_of(language))


@pytest.mark.parametrize(
    "text", ["", "12345", "x = y + 1; return x", "def f(a): return a", "OK", "`for i in x`", "!!!"]
)
def test_code_and_numbers_have_no_language(text: str) -> None:
    assert language_of(text, is_sure=True) == ""


def test_relatives_are_one_family() -> None:
    assert family_of("nb") == family_of("da") == family_of("no-NO") == "da/no"
    assert family_of("EN_us") == "en"


def english(num: int) -> list[str]:
    return [f"{TEXTS['en']} Number {n} is the one that you have." for n in range(num)]


def test_rows_in_another_language_are_named() -> None:
    answers = [*english(60), TEXTS["de"], TEXTS["ja"]]
    (mix, pairs) = language_mix(subject_of(chats(answers, [*english(60), TEXTS["de"], TEXTS["en"]])))
    assert (mix.id, mix.severity, mix.places) == ("DATA054", "info", ("d:60", "d:61"))
    assert (pairs.id, pairs.places) == ("DATA059", ("d:61",))
    assert language_mix(subject_of(chats(english(60)))) == []


def test_translations_may_differ() -> None:
    answers = [*english(60), TEXTS["de"]]
    questions = [*english(60), f"Translate this for me, please: {TEXTS['en']}"]
    assert [finding.id for finding in language_mix(subject_of(chats(answers, questions)))] == ["DATA054"]


@pytest.mark.req("R161")
def test_shares_are_compared_with_the_declared_ones() -> None:
    rows = chats([*english(90), *[TEXTS["de"]] * 10], [*english(90), *[TEXTS["de"]] * 10])
    inputs, answers = language_shares(row_languages(subject_of(rows)))
    assert answers == pytest.approx({"en": 0.9, "de": 0.1})
    assert inputs == answers
    assert declared_languages(subject_of(rows), {"en": 0.88, "de": 0.12}) == []
    (finding,) = declared_languages(subject_of(rows), {"en": 0.5, "de": 0.5})
    assert finding.evidence == ("de: 50% of production, 10.0% of the training rows",)
    (extra,) = declared_languages(subject_of(rows), ["en"])
    assert extra.places == ("de",)


@pytest.mark.req("R162")
def test_a_declared_language_without_rows_is_a_warning() -> None:
    (finding,) = declared_languages(subject_of(chats(english(60), english(60))), ["en", "fr"])
    assert (finding.id, finding.severity, finding.places) == ("DATA055", "warning", ("fr",))
    assert "no rows in fr" in finding.title
    assert declared_languages(subject_of(chats(english(60))), []) == []


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        declared_languages(subject_of(chats(english(60))), {"en": 70})
