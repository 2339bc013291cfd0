"""Rules for single rows: tasks that cannot be done in text, and answers that are none."""

# SPDX-License-Identifier: Apache-2.0
#
# `certainty` is the share of flagged rows that people had edited or thrown out: the first 2,500 rows of Stanford Alpaca
# against the curators' cleaned version (prompts only; 274 rows edited, 11 %), 2026-11 (benchmarks/data_noise.py);
# shrunk, because the rules were written while looking at those rows. The certainty of `url`, `missing_text`, `refusal`,
# `repetition` and `copy` is that of plainer rules on 5,019 rows. Where a rule hit too few rows, the figure is a guess,
# and `measured` is false. Rules marked `is_sure` may together be trusted without reading; the others are for reading,
# and for the ranker (rank.py). Filters made for web text (Gopher, C4) are left out: on instruction data they find
# nothing (precision .12 where .10 of the rows are bad).
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from foretune.audit.arithmetic import is_wrong_statistic
from foretune.audit.subject import Severity
from foretune.data.samples import Sample

__all__ = ["RULES", "Parts", "Rule", "parts_of", "rules_hit"]


class Parts(NamedTuple):
    """A row as the rules see it: what is to be done, the text it is to be done with ("" if none), and the answer."""

    instruction: str
    context: str
    answer: str


class Rule(NamedTuple):
    """One rule: `hit` says what it saw, "" for nothing; `measured` is false where `certainty` is a guess."""

    number: int
    name: str
    severity: Severity
    title: str
    fix: str
    certainty: float
    measured: bool
    is_sure: bool
    hit: Callable[[Parts], str]


def parts_of(sample: Sample) -> Parts:
    """Split a row at its reader's mark or, without one, behind the first line of the last user message."""
    prompt = sample.input_text
    at = sample.meta.get("input_at")
    if not isinstance(at, int):
        at = prompt.find("\n") if "\n" in prompt else len(prompt)
    return Parts(prompt[:at].strip(), prompt[at:].strip(), sample.target)


def rules_hit(sample: Sample) -> Mapping[str, str]:
    """The names of the rules that a row breaks, with what each saw; {} for raw text."""
    if sample.is_text:
        return {}
    parts = parts_of(sample)
    return {rule.name: seen for rule in RULES if (seen := rule.hit(parts))}


SHOWN = 120


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _seen(match: re.Match[str] | None, text: str) -> str:
    return f"{match[0][:40]!r} in {text[:SHOWN]!r}" if match else ""


NO_INPUT = _pattern(
    r"[\W_]*(?:no[ _-]?(?:input|text|data|context|content)"
    r"(?: (?:is )?(?:required|needed|provided|given|available|necessary))?"
    r"|n/?a|none|not applicable|nil|null|empty|tbd|todo|placeholder|lorem ipsum.*|input|text)[\W_]*"
)
THING = (
    r"(?:article|photo(?:graph)?|image|picture|painting|text|document|file|link|recording|chart|graph|diagram|poem|story"
    r"|passage|paragraph|essay|e-?mail|video|audio|screenshot|url|data ?set|table)s?"
)
STUB = _pattern(
    rf"\W*(?:the |an? |attached |your |this |given |provided |insert |some )*(?:\w+ )?(?:\w+ )?{THING}"
    r"(?: (?:attached|here|below|above|provided|given))?\W*"
)
DEPICTION = _pattern(
    r"\W*(?:an? |the )?(?:recording|image|picture|photo(?:graph)?|video|audio|screenshot|painting)\b"
    r" (?:of|about|showing|depicting|with)\b"
)
LINK = _pattern(r"\W*(?:\w+: *)?link to\b")


def _no_input(parts: Parts) -> str:
    return f"input {parts.context[:40]!r}" if parts.context and NO_INPUT.fullmatch(parts.context) else ""


def _stub_input(parts: Parts) -> str:
    text = parts.context
    if not text or len(text) > 200 or NO_INPUT.fullmatch(text):
        return ""
    is_stub = (len(text) < 60 and STUB.fullmatch(text)) or DEPICTION.match(text) or LINK.match(text)
    return f"input {text[:60]!r}" if is_stub else ""


URL = _pattern(r"https?://\S+|\bwww\.\w\S+|\b[\w-]+\.(?:com|org|net|io)/\w\S*")
MEDIA = _pattern(
    r"<(?:image|img|video|audio|photo|picture)\b|!\[[^\]\n]*\]\(|\[(?:image|photo|picture|video|audio|attach)[^\]\n]*\]"
    r"|\battached (?:photo|image|picture|file|painting|document|article|chart)"
    r"|\w\.(?:jpe?g|png|gif|mp3|mp4|wav|bmp|svg)\b"
)
MAKE = (
    r"(?:design|create|draw|render|make|generate|construct|produce|develop|sketch|compose|build|illustrate|paint"
    r"|animate)"
)
VISUAL_START = _pattern(rf"\W*{MAKE}\b")
VISUAL_FIRST = _pattern(
    r"\W*(?:sketch|illustrate|render|animate|photoshop|paint)\b"
    r"|\W*draw (?!(?:an? |the )?(?:\w+ )?(?:conclu|infer|compar|paral|lesson))"
)
VISUAL = _pattern(
    rf"\b{MAKE}\b[^.\n]{{0,40}}\b(?:logo|poster|illustration|drawing|sketch|icon|animation|3d model|image|picture"
    r"|painting|photo|meme|gif|infographic|brochure|flyer|banner|mood ?board|collage|sound effect|birthday card"
    r"|greeting card|chart|graph|diagram|mock-?up|wireframe|cartoon|comic|t-?shirt|cover|interface|gui"
    r"|web ?page|web ?site|blueprint)s?\b"
)
NOT_SEEN = _pattern(
    r"\b(?:in|of|from|on) (?:the|this) (?:photo|picture|image|painting|video|recording|audio)\b"
    r"|\b(?:transcribe|caption) (?:the|this)\b"
    r"|\b(?:provided|attached|given|following|above|below) (?:photo|picture|image|painting|video|recording|audio"
    r"|screenshot|chart|graph|map|diagram|\w+ (?:chart|graph))\b"
)
NAMED_WORK = re.compile(r"[“\"]|\bby [A-Z]")
LIVE = _pattern(
    r"\b(?:search|browse|surf|scour) (?:the )?(?:web|internet|online)\b|\bgoogle (?:analytics|trends|maps)\b"
    r"|\bnear(?:est|by)\b.*\b(?:restaurant|airport|store|hotel|shop|hospital|station|bar|cafe|gym)s?\b"
    r"|\b(?:restaurant|hotel|shop|store|bar|cafe)s? (?:nearby|near (?:me|you))\b"
    r"|\bcurrent (?:american |us |u\.s\. |uk |french )?(?:president|prime minister|price|time|temperature|weather"
    r"|exchange|stock|date|ceo)\b"
    r"|\b(?:predict|forecast|estimate|check|tell|what(?:'s| is| will)|how(?:'s| is))\b"
    r".*\b(?:weather|temperature|forecast)\b.*\b(?:today|tomorrow|tonight|now|outside)\b"
    r"|\b(?:gather|find|get|collect|retrieve|look up|provide)\b.{0,25}\b(?:latest|recent|current|real-time|up-to-date)"
    r" (?:\w+ )?(?:data|news|statistics|stats|prices?|scores?|trends?|reports?)\b"
    r"|\bbook (?:an?|me an?|the) (?:flight|hotel|table|room|ticket|appointment)\b|\bwhat (?:time|day|date) is it\b"
    r"|\bmonthly search volume\b"
)


def _url(parts: Parts) -> str:
    prompt = f"{parts.instruction} {parts.context}"
    return _seen(URL.search(prompt), prompt)


def _media(parts: Parts) -> str:
    for text in parts:
        if match := MEDIA.search(text):
            return _seen(match, text[max(match.start() - 20, 0) :])
    return ""


def _visual_task(parts: Parts) -> str:
    task = parts.instruction
    return _seen(VISUAL_FIRST.match(task) or (VISUAL.search(task) if VISUAL_START.match(task) else None), task)


def _not_seen(parts: Parts) -> str:
    task = parts.instruction
    is_given = len(parts.context) >= 80 or NAMED_WORK.search(f"{task} {parts.context}")
    return "" if is_given else _seen(NOT_SEEN.search(task), task)


def _live(parts: Parts) -> str:
    return _seen(LIVE.search(parts.instruction), parts.instruction)


NO_OUTPUT = _pattern(r"\W*(?:no ?_?output|n/?a|none|null|nil)\W*$|\W*<\s*no[ _]?output\s*>|no output\b.{0,40}$")
STATISTIC = _pattern(r"\b(?:median|average|mean|sum|total|mode|standard deviation)\b")
NOT_A_STATISTIC = _pattern(r"\b(?:algorithm|function|program|code|script|query|story|explain|what does)\b")
LISTED = re.compile(r"(?:\d+(?:\.\d+)?(?:[,;]\s*|\s+)(?:and )?){2,}\d")
CALCULATION = _pattern(
    r"\b(?:calculate|compute|evaluate|solve|sum up|add|subtract|multiply|divide|simplify|differentiate|integrate)\b"
    r"|\b(?:equation|expression|median|average|slope|square root|product of|sum of)\b"
    r"|\b(?:descending|ascending) order\b"
    r"|\b(?:celsius|fahrenheit)\b|\bto (?:decimal|binary|hexadecimal|roman)"
)
HOLE = _pattern(
    r"\[(?:your |insert |the |company |customer |first |last )*(?:name|date|company|product|address|title|city|place"
    r"|person|number|topic|subject|noun|verb|adjective|recipient|sender|e-?mail|phone|position)s?\b[^\]\n]*\]|\bXYZ\b"
    r"|<(?:your |insert )[^>\n]+>|\{\{\s*\w+\s*\}\}|_{4,}"
)
MISSING = _pattern(
    r"\b(?:the following|given (?!that|the (?:fact|current))(?:the |this |an? )?(?:\w+ )?"
    r"(?:text|sentence|article|passage|paragraph|list|data|table|code|numbers?|words?|poem|story|review|equation|array"
    r"|string|input|set)|(?:sentence|text|article|passage|paragraph|list|data|table|code|numbers?|words?)"
    r" (?:below|above|provided))\b"
)
CARRIES_TEXT = re.compile(r"[:\n\"“'‘]|\d")
REFUSAL = _pattern(
    r"\bas an ai\b|\bi(?: am|'m) (?:an ai|a language model|unable to)|\bi(?: cannot|'m not able to| can't| can not)"
    r" (?:help|assist|provide|complete|access|do|see|create|generate|process|answer)"
    r"|\bi do(?:n't| not) have (?:access|enough|any information|the ability)"
    r"|cannot be (?:fulfilled|completed|generated)|\bunable to (?:process|generate|complete|access|provide)"
)
MERGED = re.compile(r"\n\s*\d+\.\s*(?:Instruction|Input|Output):|\n(?:### ?)?Instruction:")
BOILERPLATE = _pattern(
    r"\bi hope this (?:helps|email finds)|\bfeel free to (?:ask|reach out|contact)|\blet me know if you (?:have|need)"
    r"|^(?:sure|certainly|of course|absolutely)[!,.]|\bhere(?:'s| is) (?:the|your|an?) (?:answer|response|output)\b"
)


def _no_output(parts: Parts) -> str:
    answer = parts.answer.strip()
    if not answer:
        return "empty answer"
    return _seen(NO_OUTPUT.match(answer), answer) if len(answer) < 300 else ""


def _statistic(parts: Parts) -> str:
    task, data = parts.instruction, f"{parts.instruction} {parts.context}"
    if not STATISTIC.search(task) or NOT_A_STATISTIC.search(task):
        return ""
    return _seen(LISTED.search(data), data)


def _wrong_statistic(parts: Parts) -> str:
    return f"{parts.instruction[:60]} {parts.context[:40]} -> {parts.answer[:60]}" if is_wrong_statistic(parts) else ""


def _calculation(parts: Parts) -> str:
    if _statistic(parts) or not any(map(str.isdigit, parts.instruction + parts.context)):
        return ""
    return _seen(CALCULATION.search(parts.instruction), parts.instruction)


def _hole(parts: Parts) -> str:
    prompt = f"{parts.instruction} {parts.context}"
    return _seen(HOLE.search(prompt), prompt)


def _missing(parts: Parts) -> str:
    task = parts.instruction
    if parts.context or len(task) > 120 or CARRIES_TEXT.search(task):
        return ""
    return _seen(MISSING.search(task), task)


def _refusal(parts: Parts) -> str:
    return _seen(REFUSAL.search(parts.answer[:400]), parts.answer)


def _merged(parts: Parts) -> str:
    return _seen(MERGED.search(parts.answer), parts.answer)


def _boilerplate(parts: Parts) -> str:
    return _seen(BOILERPLATE.search(parts.answer), parts.answer)


def _repetition(parts: Parts) -> str:
    """A 5-gram of words that fills a third of a longer answer."""
    words = parts.answer.split()
    if len(words) < 30:
        return ""
    gram, count = Counter(zip(*(words[n:] for n in range(5)), strict=False)).most_common(1)[0]
    return f"{count} x {' '.join(gram)!r}" if count >= 4 and 5 * count > len(words) / 3 else ""


def _copy(parts: Parts) -> str:
    """An answer that is its input, word by word."""
    given = parts.context or parts.instruction
    is_copy = len(given) >= 20 and given.casefold().strip() == parts.answer.casefold().strip()
    return f"answer {parts.answer[:SHOWN]!r}" if is_copy else ""


OUT = "take the rows out, or give the model what they need"
PROGRAM = "check them by program"
READ = "read these rows"
RULES = (
    Rule(85, "no_input", "warning", "inputs are placeholders", "leave the input empty", 0.97, True, True, _no_input),
    Rule(86, "stub_input", "warning", "inputs name a thing instead of giving it", OUT, 0.75, True, True, _stub_input),
    Rule(87, "url", "warning", "prompts need a web page", OUT, 0.77, True, True, _url),
    Rule(88, "media", "warning", "rows hold pictures, sound or files", OUT, 0.9, True, True, _media),
    Rule(89, "visual_task", "warning", "tasks ask for something drawn or built", OUT, 0.9, True, True, _visual_task),
    Rule(90, "not_seen", "warning", "tasks are about a picture or recording", OUT, 0.85, True, True, _not_seen),
    Rule(91, "live", "warning", "tasks need the web or today's facts", OUT, 0.9, True, True, _live),
    Rule(92, "no_output", "warning", "answers are placeholders", "write the answers", 0.75, True, True, _no_output),
    Rule(
        93, "wrong_statistic", "warning", "answers compute wrongly", "correct them", 0.9, False, True, _wrong_statistic
    ),
    Rule(94, "statistic", "info", "answers compute with listed numbers", PROGRAM, 0.9, True, True, _statistic),
    Rule(95, "calculation", "info", "answers are calculations", PROGRAM, 0.29, True, False, _calculation),
    Rule(96, "hole", "info", "prompts hold an unfilled template", "fill it in", 0.06, True, False, _hole),
    Rule(97, "missing_text", "info", "prompts refer to a text that is not there", OUT, 0.43, True, False, _missing),
    Rule(98, "refusal", "info", "answers refuse", "take them out, if not meant", 0.25, True, False, _refusal),
    Rule(99, "merged", "warning", "answers hold a second task", "cut the answer before it", 0.9, False, False, _merged),
    Rule(100, "boilerplate", "info", "answers hold phrases of politeness", "cut them", 0.1, False, False, _boilerplate),
    Rule(101, "repetition", "info", "answers repeat themselves", READ, 0.14, True, False, _repetition),
    Rule(102, "copy", "info", "answers are copies of their inputs", READ, 0.25, True, False, _copy),
)
