"""Scores of free text: exact match, contains, token F1, ROUGE, BLEU, chrF and length."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from foretune.evaluate.scorers.spec import CorpusMetric
from foretune.stats.checks import FloatArray

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

__all__ = [
    "BLEU_CORPUS",
    "CHRF_CORPUS",
    "NORMALISERS",
    "bleu_tokens",
    "contains",
    "exact_match",
    "exact_match_normalised",
    "length_chars",
    "length_words",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "rouge_lsum",
    "rouge_tokens",
    "sentence_bleu",
    "sentence_chrf",
    "token_f1",
]

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
ASCII_WORDS = re.compile(r"[a-z0-9]+")
UNICODE_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
SPACELESS = re.compile(r"[\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
MAX_ORDER = 4  # of BLEU
CHAR_ORDER = 6  # of chrF


def normalise_squad(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra space (SQuAD 1.1 and 2.0 evaluation)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


# Named with a version: a change of rule is a new name, so that old scores keep their meaning.
NORMALISERS: dict[str, Callable[[str], str]] = {
    "none-v1": str,
    "strip-v1": str.strip,
    "squad-v1": normalise_squad,
}


def exact_match(prediction: str, target: str, normaliser: str = "strip-v1") -> float:
    """1 where the two are equal after the normaliser; by default only white space at the ends is dropped."""
    normalise = NORMALISERS[normaliser]
    return float(normalise(prediction) == normalise(target))


def exact_match_normalised(prediction: str, target: str) -> float:
    """Exact match after the SQuAD normaliser."""
    return exact_match(prediction, target, "squad-v1")


def contains(prediction: str, target: str) -> float:
    """1 where the target, stripped and case-folded, stands in the prediction; an empty target only in an empty one."""
    wanted, given = target.strip().casefold(), prediction.strip().casefold()
    return float(wanted in given if wanted else not given)


def token_f1(prediction: str, target: str) -> float:
    """F1 of the bags of words after the SQuAD normaliser; two empty answers agree, one empty answer scores 0."""
    given, wanted = normalise_squad(prediction).split(), normalise_squad(target).split()
    if not given or not wanted:
        return float(given == wanted)
    return _f1(sum((Counter(given) & Counter(wanted)).values()), len(given), len(wanted))


def length_chars(prediction: str, target: str) -> float:
    """Characters of the prediction."""
    return float(len(prediction))


def length_words(prediction: str, target: str) -> float:
    """Words of the prediction, by white space."""
    return float(len(prediction.split()))


def rouge_1(prediction: str, target: str) -> float:
    """ROUGE-1 F: unigram overlap (Lin 2004), equal to rouge-score 0.1.2 without stemmer on Latin text."""
    return _rouge_n(prediction, target, 1)


def rouge_2(prediction: str, target: str) -> float:
    """ROUGE-2 F: bigram overlap (Lin 2004), equal to rouge-score 0.1.2 without stemmer on Latin text."""
    return _rouge_n(prediction, target, 2)


def rouge_l(prediction: str, target: str) -> float:
    """ROUGE-L F: longest common subsequence of words over the whole text, equal to rouge-score's `rougeL`."""
    given, wanted = rouge_tokens(prediction, target)
    return _f1(_common_subsequence(given, wanted), len(given), len(wanted))


def rouge_lsum(prediction: str, target: str) -> float:
    """ROUGE-L F of summaries: for each line of the target all that it shares, in order, with the answer's lines.

    Lin 2004, section 3.2; equal to rouge-score's `rougeLsum` with `split_summaries=False` on Latin text.
    """
    words = _words_for(target)
    given = [words.findall(line.lower()) for line in prediction.split("\n")]
    wanted = [words.findall(line.lower()) for line in target.split("\n")]
    given, wanted = [line for line in given if line], [line for line in wanted if line]
    left_given, left_wanted = (Counter(word for line in lines for word in line) for lines in (given, wanted))
    num_given, num_wanted = left_given.total(), left_wanted.total()
    common = 0
    for line in wanted:
        shared = set[int]().union(*(_shared_places(line, other) for other in given))
        for place in sorted(shared):
            if left_given[line[place]] > 0 and left_wanted[line[place]] > 0:
                common += 1
                left_given[line[place]] -= 1
                left_wanted[line[place]] -= 1
    return _f1(common, num_given, num_wanted)


def rouge_tokens(prediction: str, target: str) -> tuple[list[str], list[str]]:
    """Words of prediction and target: runs of a-z and 0-9 after lower-casing, as rouge-score has it.

    Where most letters of the target are of another script, for which that leaves nothing, words are runs of letters
    and digits of any script, and each Chinese or Japanese character is a word.
    """
    words = _words_for(target)
    return words.findall(prediction.lower()), words.findall(target.lower())


def sentence_bleu(prediction: str, target: str) -> float:
    """sacreBLEU of one sample (tokens by script, exponential smoothing, effective order), fraction."""
    return float(_bleu(bleu_tokens([target])).sentence_score(prediction, [target]).score) / 100


def bleu_tokens(targets: Sequence[str]) -> str:
    """sacreBLEU's tokeniser for the script that most letters of the targets are in: 13a where words have spaces.

    zh for Chinese, char for Japanese, Thai, Lao, Khmer and Burmese, which are written without spaces.
    """
    letters = [letter for target in targets for letter in target if not letter.isascii() and letter.isalpha()]
    num_letters = len(letters) + sum(letter.isascii() and letter.isalpha() for target in targets for letter in target)
    spaceless = sum(bool(SPACELESS.match(letter)) for letter in letters)
    chinese = sum(bool(CHINESE.match(letter)) for letter in letters)
    if 2 * (spaceless + chinese) <= num_letters:
        return "13a"
    return "char" if 10 * spaceless > chinese else "zh"


def sentence_chrf(prediction: str, target: str) -> float:
    """sacreBLEU's chrF2 of one sample (character n-grams to 6), fraction."""
    return float(_chrf().sentence_score(prediction, [target]).score) / 100


def bleu_rows(predictions: Sequence[str], targets: Sequence[str]) -> FloatArray:
    """(n, 10): sacreBLEU's matched and given n-grams of order 1-4, and both lengths in tokens, of each sample."""
    rows = []
    tokens = bleu_tokens(targets)
    for prediction, target in zip(predictions, targets, strict=True):
        score = _bleu(tokens).sentence_score(prediction, [target])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.float64)


def bleu_of_sums(sums_BK: FloatArray) -> FloatArray:
    """Corpus BLEU as a fraction from summed `bleu_rows`: brevity penalty times the geometric mean of precisions.

    Exponential smoothing as in mteval-v13a: the i-th order without a match counts 1 / 2^i of a match.
    """
    matched, given = sums_BK[:, :MAX_ORDER], sums_BK[:, MAX_ORDER : 2 * MAX_ORDER]
    given_length, wanted_length = sums_BK[:, -2], sums_BK[:, -1]
    empty = matched == 0
    smoothed = np.where(empty, 0.5 ** np.cumsum(empty, axis=1), matched)
    log_mean = np.log(smoothed / np.maximum(given, 1)).mean(axis=1)
    log_brevity = np.minimum(0, 1 - wanted_length / np.maximum(given_length, 1))
    undefined = (given == 0).any(axis=1) | empty.all(axis=1)
    result: FloatArray = np.where(undefined, 0.0, np.exp(log_mean + log_brevity))
    return result


def chrf_rows(predictions: Sequence[str], targets: Sequence[str]) -> FloatArray:
    """(n, 18): given, wanted and matched character n-grams of orders 1-6 of each sample, white space left out."""
    pairs = zip(predictions, targets, strict=True)
    return np.array([_char_matches("".join(p.split()), "".join(t.split())) for p, t in pairs], dtype=np.float64)


def chrf_of_sums(sums_BK: FloatArray) -> FloatArray:
    """Corpus chrF2 as a fraction from summed `chrf_rows`: F with beta 2 of precision and recall averaged over orders.

    Orders that one side has no n-grams of are left out, as sacreBLEU does by default (Popovic 2015).
    """
    given, wanted, matched = (sums_BK[:, part::3] for part in range(3))
    used = (given > 0) & (wanted > 0)
    orders = np.maximum(used.sum(axis=1), 1)
    precision = np.where(used, matched / np.maximum(given, 1), 0).sum(axis=1) / orders
    recall = np.where(used, matched / np.maximum(wanted, 1), 0).sum(axis=1) / orders
    weighted = 4 * precision + recall
    result: FloatArray = 5 * precision * recall / np.where(weighted > 0, weighted, 1)
    return result


def bleu_signature(targets: Sequence[str]) -> str:
    """sacreBLEU's signature of the corpus score."""
    from sacrebleu.metrics.bleu import BLEU

    return _signature(BLEU(tokenize=bleu_tokens(targets)))


def chrf_signature(targets: Sequence[str]) -> str:
    """sacreBLEU's signature of the corpus score."""
    return _signature(_chrf())


BLEU_CORPUS = CorpusMetric(bleu_rows, bleu_of_sums, sentence_bleu, bleu_signature)
CHRF_CORPUS = CorpusMetric(chrf_rows, chrf_of_sums, sentence_chrf, chrf_signature)


def _f1(common: int, num_given: int, num_wanted: int) -> float:
    """Harmonic mean of common / given and common / wanted; 0 where nothing is common."""
    return 2 * common / (num_given + num_wanted) if common else 0.0


def _rouge_n(prediction: str, target: str, order: Literal[1, 2]) -> float:
    given, wanted = (_ngrams(words, order) for words in rouge_tokens(prediction, target))
    return _f1(sum((given & wanted).values()), given.total(), wanted.total())


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _words_for(target: str) -> re.Pattern[str]:
    letters = [character for character in target if character.isalpha()]
    return UNICODE_WORDS if 2 * sum(_is_latin(letter) for letter in letters) < len(letters) else ASCII_WORDS


def _shared_places(wanted: Sequence[str], given: Sequence[str]) -> set[int]:
    """Places in `wanted` of one longest common subsequence with `given`: the one found from the ends backwards."""
    lengths = [[0] * (len(given) + 1) for _ in range(len(wanted) + 1)]
    for row, word in enumerate(wanted, start=1):
        for column, other in enumerate(given, start=1):
            longer = max(lengths[row - 1][column], lengths[row][column - 1])
            lengths[row][column] = lengths[row - 1][column - 1] + 1 if word == other else longer
    places = set()
    row, column = len(wanted), len(given)
    while row and column:
        if wanted[row - 1] == given[column - 1]:
            places.add(row - 1)
            row, column = row - 1, column - 1
        elif lengths[row][column - 1] > lengths[row - 1][column]:
            column -= 1
        else:
            row -= 1
    return places


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table held as the bits of one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    mask = (1 << len(first)) - 1
    row = mask
    for word in second:
        kept = row & places.get(word, 0)
        row = (row + kept | row - kept) & mask
    return len(first) - row.bit_count()


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")


def _char_matches(given: str, wanted: str) -> list[int]:
    counts: list[int] = []
    for order in range(1, CHAR_ORDER + 1):
        ours = Counter(given[start : start + order] for start in range(len(given) - order + 1))
        theirs = Counter(wanted[start : start + order] for start in range(len(wanted) - order + 1))
        # n-grams of an order that the target has none of are not held against the prediction
        counts += [ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()]
    return counts


def _signature(metric: BLEU | CHRF) -> str:
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


@cache
def _bleu(tokens: str) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, tokenize=tokens)


@cache
def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
