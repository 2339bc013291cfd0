"""Our scorers give the numbers of rouge-score, sacrebleu, scikit-learn and jsonschema."""

# SPDX-License-Identifier: Apache-2.0
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest

from foretune.evaluate.scorers import class_report, score_samples
from foretune.evaluate.scorers.structured import compiled_schema, schema_valid
from foretune.evaluate.scorers.text import rouge_1, rouge_2, rouge_l

WORDS = [
    "the",
    "The",
    "cat",
    "cats",
    "sat",
    "on",
    "a",
    "mat,",
    "mat.",
    "U.S.",
    "3.5",
    "don't",
    "well-known",
    "(so)",
    "!?",
]
LATIN = ["café", "naïve", "straße", "año", "“quoted”", "it’s", "–", "œuvre", "İstanbul"]


def random_pairs(count, vocabulary, seed=0):
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        target = [rng.choice(vocabulary) for _ in range(rng.randint(1, 25))]
        answer = [rng.choice(vocabulary) if rng.random() < 0.4 else word for word in target]
        pairs.append((" ".join(answer[: rng.randint(0, 25)]), " ".join(target)))
    return pairs


PAIRS = random_pairs(200, WORDS) + random_pairs(100, WORDS + LATIN) + [("", "a b"), ("a\nb", "a b c\nd"), ("x", "y")]
ANSWERS, TARGETS = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]


@pytest.mark.req("R271")
def test_rouge_equals_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for answer, target in PAIRS:
        theirs = scorer.score(target, answer)
        ours = {"rouge1": rouge_1(answer, target), "rouge2": rouge_2(answer, target), "rougeL": rouge_l(answer, target)}
        assert ours == pytest.approx({name: score.fmeasure for name, score in theirs.items()}, abs=1e-12)


@pytest.mark.req("R272")
@pytest.mark.parametrize("size", [1, 2, 17, len(PAIRS)])
@pytest.mark.parametrize("start", [0, 5, 90])
def test_corpus_bleu_and_chrf_equal_sacrebleu(size, start):
    import sacrebleu

    answers, targets = ANSWERS[start : start + size], TARGETS[start : start + size]
    table = score_samples(["bleu", "chrf"], answers, targets)
    bleu, chrf = sacrebleu.metrics.BLEU(force=True), sacrebleu.metrics.CHRF()
    assert table.metrics["bleu"].value == pytest.approx(bleu.corpus_score(answers, [targets]).score / 100, abs=1e-9)
    assert table.metrics["chrf"].value == pytest.approx(chrf.corpus_score(answers, [targets]).score / 100, abs=1e-9)
    assert table.metrics["bleu"].signature == str(bleu.get_signature())
    assert table.metrics["chrf"].signature == str(chrf.get_signature())


@pytest.mark.req("R272")
def test_sentence_bleu_and_chrf_equal_sacrebleu():
    import sacrebleu

    table = score_samples(["bleu", "chrf"], ANSWERS, TARGETS)
    for row in range(0, len(PAIRS), 7):
        assert table.scores["bleu"][row] == pytest.approx(
            sacrebleu.sentence_bleu(ANSWERS[row], [TARGETS[row]]).score / 100, abs=1e-9
        )
        assert table.scores["chrf"][row] == pytest.approx(
            sacrebleu.sentence_chrf(ANSWERS[row], [TARGETS[row]]).score / 100, abs=1e-9
        )


def test_bleu_interval_is_near_sacrebleus_bootstrap(monkeypatch):
    import sacrebleu

    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    theirs = sacrebleu.metrics.BLEU(force=True).corpus_score(ANSWERS, [TARGETS], n_bootstrap=2000)
    ours = score_samples(["bleu"], ANSWERS, TARGETS).metrics["bleu"]
    assert (ours.ci_high - ours.ci_low) / 2 == pytest.approx(theirs._ci / 100, rel=0.1)


@pytest.mark.req("R268")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("num_labels", [2, 3, 20])
def test_classification_equals_scikit_learn(seed, num_labels):
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(seed)
    labels = [f"label {place:02}" for place in range(num_labels)]
    targets = labels + [labels[place] for place in rng.integers(0, num_labels, 60)]
    answers = [t if rng.random() < 0.6 else labels[rng.integers(0, num_labels)] for t in targets]
    report = class_report(answers, targets)
    each = precision_recall_fscore_support(targets, answers, zero_division=0)
    ours = np.array([score[1:] for score in report.classes]).T
    assert ours == pytest.approx(np.array(each))
    macro = precision_recall_fscore_support(targets, answers, average="macro", zero_division=0)
    assert (report.macro_precision, report.macro_recall, report.macro_f1) == pytest.approx(macro[:3])
    assert report.accuracy == pytest.approx(accuracy_score(targets, answers))
    assert report.counts[:, :-1].tolist() == confusion_matrix(targets, answers).tolist()
    names = ["accuracy", "macro_precision", "macro_recall", "macro_f1"]
    values = [metric.value for metric in score_samples(names, answers, targets).metrics.values()]
    assert values == pytest.approx([report.accuracy, *macro[:3]])


@pytest.mark.req("R268")
def test_invalid_answers_equal_scikit_learn_with_a_label_of_their_own():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(3)
    targets = [("yes", "no")[place] for place in rng.integers(0, 2, 80)]
    answers = [("yes", "no", "dunno")[place] for place in rng.integers(0, 3, 80)]
    report = class_report(answers, targets)
    macro = precision_recall_fscore_support(targets, answers, labels=["no", "yes"], average="macro", zero_division=0)
    assert (report.macro_precision, report.macro_recall, report.macro_f1) == pytest.approx(macro[:3])
    theirs = confusion_matrix(targets, answers, labels=["no", "yes", "dunno"])
    assert report.counts.tolist() == theirs[:2].tolist()


def test_schema_validity_equals_jsonschema():
    import jsonschema

    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}
    validator = compiled_schema(schema)
    for value in ({"n": 1}, {"n": -1}, {"n": 1.0}, {"n": "1"}, {}, [], None, {"n": 2, "more": []}):
        try:
            jsonschema.validate(value, schema)
            valid = 1.0
        except jsonschema.ValidationError:
            valid = 0.0
        assert schema_valid(json.dumps(value), "", validator) == valid


DIALOGUES = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_rouge_on_real_summaries():
    from rouge_score.rouge_scorer import RougeScorer

    found = sorted(DIALOGUES.glob("**/dialogsum*/**/*.jsonl")) + sorted(DIALOGUES.glob("**/dialogsum*.jsonl"))
    if not found:
        pytest.skip("the real dialogsum data is not beside the repository")
    lines = found[0].read_text(encoding="utf-8").splitlines()[:200]
    texts = [text for line in lines for text in json.loads(line).values() if isinstance(text, str)]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for answer, target in itertools.pairwise(texts):
        theirs = [score.fmeasure for score in scorer.score(target, answer).values()]
        assert [rouge_1(answer, target), rouge_2(answer, target), rouge_l(answer, target)] == pytest.approx(theirs)
