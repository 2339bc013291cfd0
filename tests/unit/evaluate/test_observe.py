"""Probes of a run: each shows the fault that is planted, shows nothing without it, and fails by itself."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretune.data.ledger import TestLedger as Ledger
from foretune.data.samples import Message, Sample
from foretune.engine.losses import Asked
from foretune.evaluate.observe import observe
from foretune.records.evidence import EvidenceRecord
from foretune.records.token_audit import TokenAuditRecord
from unit.evaluate.conftest import FakeEngine, FakeRun, question

BASE_NATS, TUNED_NATS = 2.0, 0.2
Rule = Callable[[str, str, str], float | None]  # which model, text before a token, the token -> nats, None = usual


def colour(number: int, answer: str) -> Sample:
    """Question `number` with an answer of one's own."""
    sample = question(number)
    return replace(sample, messages=(*sample.messages[:-1], Message("assistant", answer)))


@pytest.fixture
def observed(fake_run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvidenceRecord]:
    """`observed(rule)` probes the fake run with losses by `rule`, quick unless told otherwise."""

    def probe(rule: Rule | None = None, **options: Any) -> EvidenceRecord:
        def losses(engine: FakeEngine, rows: Sequence[Asked], **more: Any) -> list[np.ndarray]:
            which = "base" if engine is fake_run.base else "tuned"
            return [np.array([nats(which, list(row.ids), place) for place in row.places]) for row in rows]

        def nats(which: str, ids: list[int], place: int) -> float:
            found = None
            if rule is not None:
                before = fake_run.tokenizer.decode(ids[:place], skip_special=False)
                found = rule(which, before, fake_run.tokenizer.token_text(ids[place]))
            return found if found is not None else BASE_NATS if which == "base" else TUNED_NATS

        monkeypatch.setattr("foretune.engine.losses.losses_of", losses)
        monkeypatch.setattr("foretune.models.adapter.merge_lora", lambda loaded: None)
        return observe(fake_run.job, run_dir=fake_run.run_dir, runs_dir=fake_run.runs_dir, **{"quick": True, **options})

    return probe


def token_audit(run: FakeRun, **facts: Any) -> None:
    """The record of a sound training run, with facts of its own."""
    usual = {"ended_fraction": 1.0, "truncated_fraction": 0.0, "prompt_loss_fraction": 0.0}
    TokenAuditRecord(
        method="lora",
        kind="causal",
        train_on="assistant",
        tokenizer_sha256="0",
        template_sha256="0",
        has_chat_template=True,
        special_tokens=(),
        pad_is_eos=False,
        num_rows=30,
        num_validation_rows=12,
        num_dropped=0,
        num_tokens=1000,
        num_loss_tokens=200,
        longest_row_tokens=40,
        packing="",
        num_read_rows=30,
        **{"template": run.tokenizer.template.source, **usual, **facts},
    ).write(run.run_dir)


# --- the record ----------------------------------------------------------------------------------------------------


def test_a_sound_run_is_measured_whole(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Every part that a run without production can have is there, and the record is on disk."""
    fake_run.write_questions()
    token_audit(fake_run)
    fake_run.evaluate()
    record = observed()
    assert set(record.not_measured) == {"shift"}
    assert "data.production_path" in record.not_measured["shift"]
    assert EvidenceRecord.read(fake_run.run_dir) == record
    assert record.num_train_samples == 30
    assert len(record.losses) == 42
    assert {loss.split for loss in record.losses} == {"train", "validation"}
    first = record.losses[0]
    assert (first.base_nats, first.tuned_nats, first.score) == (pytest.approx(2), pytest.approx(0.2), 1.0)


def test_the_test_split_stays_sealed(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Observing adds no look to the ledger and loads no test sample, evaluated or not."""
    fake_run.write_questions()
    observed()
    assert Ledger(fake_run.runs_dir).looks(fake_run.training.dataset_version) == []
    fake_run.evaluate()
    looks = Ledger(fake_run.runs_dir).looks(fake_run.training.dataset_version)
    test_file = next(path for path in fake_run.runs_dir.rglob("test*.jsonl*") if "ledger" not in path.name)
    test_file.write_bytes(b"damaged")
    record = observed()
    assert Ledger(fake_run.runs_dir).looks(fake_run.training.dataset_version) == looks
    assert record.overlap is not None and record.overlap.num_test == 60


def test_a_probe_that_fails_is_named_and_the_others_go_on(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of one probe is in `not_measured` with its class; what does not need it is measured."""
    fake_run.write_questions()
    token_audit(fake_run)

    def broken(*args: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("foretune.evaluate.observe.template_losses", broken)
    record = observed()
    assert record.not_measured["templates"] == "RuntimeError: no room"
    assert record.templates == ()
    assert record.train_score is not None and record.rows is not None


def test_an_unevaluated_run_lacks_what_evaluation_would_say(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """Without evaluation.json the base's score and the overlap are missing, and the base is asked for its form."""
    fake_run.write_questions()
    record = observed()
    assert "foretune evaluate colours-001" in record.not_measured["base_validation_score"]
    assert "overlap" in record.not_measured
    assert record.shape is not None and record.shape.base_form == 0.0


def test_progress_names_what_is_read(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Whoever watches hears of the answers."""
    fake_run.write_questions()
    heard: list[str] = []
    observed(on_progress=lambda what, done, total: heard.append(what))
    assert {"train_answers", "validation_answers"} <= set(heard)


def test_quick_looks_at_fewer(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """100 samples of a split when quick, up to 300 otherwise; always the same ones."""
    fake_run.write([question(number) for number in range(150)], [question(200)], [])
    quick = [loss.sample_id for loss in observed().losses if loss.split == "train"]
    assert len(quick) == 100
    assert [loss.sample_id for loss in observed().losses if loss.split == "train"] == quick
    assert sum(loss.split == "train" for loss in observed(quick=False).losses) == 150


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_tell_what_training_wrote_down(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Ends, cuts and prompts as training counted them; without its record there is a reason instead."""
    fake_run.write_questions()
    assert "token audit" in observed().not_measured["rows"]
    token_audit(fake_run, ended_fraction=0.25, truncated_fraction=0.5, prompt_loss_fraction=0.75)
    rows = observed().rows
    assert rows is not None
    assert (rows.ended_fraction, rows.truncated_fraction, rows.prompt_supervised_fraction) == (0.25, 0.5, 0.75)
    assert rows.supervised_fraction == 0.2


def test_repeats_and_conflicts_are_counted(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Copies by input and target whatever their case, and inputs with two targets."""
    shouted = replace(question(0), id="loud", messages=(*question(0).messages[:-1], Message("assistant", "BLUE ")))
    fake_run.write([question(0), shouted, question(1), colour(1, "gold"), question(2)], [question(100)], [])
    token_audit(fake_run)
    rows = observed().rows
    assert rows is not None
    assert rows.duplicate_fraction == pytest.approx(1 / 5)
    assert rows.largest_duplicate_fraction == pytest.approx(2 / 5)
    assert rows.conflicting_fraction == pytest.approx(2 / 5)
    assert rows.num_distinct == 4


def test_general_samples_that_were_mixed_in_do_not_count(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """The task is judged by its own samples."""
    mixed = [replace(colour(number, "something general"), meta={"mixed": True}) for number in range(500, 510)]
    fake_run.write([*(question(number) for number in range(12)), *mixed], [question(100)], [])
    record = observed()
    assert record.num_train_samples == 12
    assert record.train_score is not None and (record.train_score.n, record.train_score.value) == (12, 1.0)


# --- losses --------------------------------------------------------------------------------------------------------


def test_a_prompt_that_was_trained_on_falls(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """The prompt's own loss before and after: unchanged in a sound run, lower where prompts carried loss."""
    fake_run.write_questions()

    def unchanged(which: str, before: str, token: str) -> float | None:
        return None if "<|assistant|>" in before else 3.0

    sound = observed(unchanged).prompt
    assert sound is not None and (sound.base_nats, sound.tuned_nats) == (pytest.approx(3), pytest.approx(3))
    trained = observed().prompt
    assert trained is not None and (trained.base_nats, trained.tuned_nats) == (pytest.approx(2), pytest.approx(0.2))
    assert trained.n == 30


def test_a_target_that_does_not_hang_on_its_input_shows(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """`given_others` is as low as the own loss where input does not matter, and high where the input decides."""
    fake_run.write_questions()
    blind = [loss for loss in observed().losses if loss.given_others is not None]
    assert blind and all(loss.given_others == pytest.approx(loss.tuned_nats) for loss in blind)
    words = observed().word_fit
    assert words is not None and (words.split, words.n) == ("train", 30)
    fits = observed().fits
    assert [(fit.split, fit.n, fit.num_pairings) for fit in fits] == [("train", 30, 120), ("validation", 12, 48)]
    assert {tail.targets_fraction / tail.pairings_fraction for fit in fits for tail in fit.tails} == {1.0}

    def knows(which: str, before: str, token: str) -> float | None:
        if which == "base" or "<|assistant|>" not in before:
            return None
        number = int(before.partition("thing ")[2].partition("?")[0])
        told = before.rpartition("<|assistant|>")[2] + token
        return 0.2 if ("blue", "green", "gold")[number % 3].startswith(told.strip()) or "<|" in token else 5.0

    seeing = [loss for loss in observed(knows).losses if loss.given_others is not None]
    assert all(loss.given_others > loss.tuned_nats + 1 for loss in seeing)
    assert {tail.targets_fraction for fit in observed(knows).fits for tail in fit.tails} == {0.0}


def test_only_the_end_of_a_target_can_be_unlearned(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """The last tenth of a target has a loss of its own: high where training never saw it."""
    long = "one two three four five six seven eight nine ten eleven twelve thirteen zebra"
    fake_run.write([colour(number, long) for number in range(8)], [colour(9, long)], [])

    def cut(which: str, before: str, token: str) -> float | None:
        return 6.0 if which == "tuned" and "thirteen" in before else None

    losses = observed(cut).losses
    assert all(loss.tuned_nats_last > 3 > loss.tuned_nats for loss in losses if loss.tuned_nats_last is not None)
    assert all(loss.tuned_nats_last == pytest.approx(0.2) for loss in observed().losses)


def test_the_loss_of_the_inputs_stands_beside_knowing_nothing(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """The base's loss on the inputs alone, the logarithm of the tokens in use, and tokens per character."""
    fake_run.write_questions()
    record = observed()
    assert record.base_input_nats == pytest.approx(BASE_NATS)
    assert record.uniform_nats is not None and 2 < record.uniform_nats < np.log(2048)
    assert record.tokens_per_character is not None and 0.1 < record.tokens_per_character < 1


# --- the end -------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_stop_shows(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """An end that is unlikely, answers that run into the limit, and targets that go on; nothing of it when sound."""
    fake_run.write_questions()
    sound = observed().end
    assert sound is not None
    assert sound.p_end.value == pytest.approx(np.exp(-0.2)) and sound.ended_fraction.value == 1.0
    assert sound.runs_past_target_fraction == 0.0 and sound.length_ratio <= 1.5

    usual = fake_run.tuned.answer
    fake_run.tuned.answer = lambda prompt: usual(prompt) + " and so on and on and on and on and on and on and on"

    def endless(which: str, before: str, token: str) -> float | None:
        return 9.0 if which == "tuned" and token == "<|end|>" and "<|assistant|>" in before else None

    endless_end = observed(endless).end
    assert endless_end is not None
    assert endless_end.p_end.value < 0.01 < endless_end.base_p_end
    assert endless_end.ended_fraction.value == 0.0
    assert endless_end.runs_past_target_fraction == 1.0 and endless_end.length_ratio > 3


def test_targets_of_one_source_have_the_same_lengths(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """The chance that a validation target is longer: a half, 1 where training's were cut, 0 where they run on."""
    found = []
    for train in ("one two three four", "one", "one two three four five six"):
        rows = [colour(number, train) for number in range(12)]
        fake_run.write(rows, [colour(number + 50, "one two three four") for number in range(6)], [])
        end = observed().end
        assert end is not None and end.validation_longer is not None
        found.append(end.validation_longer.value)
    assert found == [0.5, 1.0, 0.0]
    fake_run.write([colour(number, "one") for number in range(12)], [], [])
    alone = observed().end
    assert alone is not None and alone.validation_longer is None


def test_validation_rows_are_read_whole_by_the_measure_of_training(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """The tokens that carry loss, with those of the prompt where training learns them; no measure for preferences."""
    fake_run.write_questions()
    token_audit(fake_run)

    def dear_prompts(which: str, before: str, token: str) -> float | None:
        return None if which == "base" or "<|assistant|>" in before else 3.0

    assert observed(dear_prompts).whole_validation_nats == pytest.approx(TUNED_NATS)

    def dear_ends(which: str, before: str, token: str) -> float | None:
        return 5.0 if token == "<|end|>" else None

    record = observed(dear_ends)
    assert record.unended_validation_nats == pytest.approx(TUNED_NATS)
    assert record.whole_validation_nats is not None and record.whole_validation_nats > 4 * TUNED_NATS
    fake_run.settings["train"] = {"advanced": {"train_on": "all"}}
    with_prompts = observed(dear_prompts).whole_validation_nats
    assert with_prompts is not None and 1.0 < with_prompts < 3.0
    fake_run.settings["train"] = {"method": "dpo"}
    assert "dpo" in observed().not_measured["whole_validation_nats"]


# --- templates -----------------------------------------------------------------------------------------------------


def test_a_template_that_training_did_not_use_shows(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Targets behind the training template cost less than behind the serving one where these differ."""
    fake_run.write_questions()
    other = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant] "
    token_audit(fake_run, template=other)

    def trained_otherwise(which: str, before: str, token: str) -> float | None:
        return None if which == "base" or before.startswith("[system]") else 4.0

    found = {one.name: one for one in observed(trained_otherwise).templates}
    assert set(found) == {"training", "serving", "tokenizer", "plain"}
    assert found["training"].nats == pytest.approx(0.2) and found["serving"].nats == pytest.approx(4.0)
    assert found["training"].template_sha256 != found["serving"].template_sha256
    token_audit(fake_run)
    same = {one.name: one for one in observed().templates}
    assert same["training"].template_sha256 == same["serving"].template_sha256
    assert same["training"].nats == same["serving"].nats


def test_a_template_that_writes_answers_unlike_its_question_is_compared(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks with other words than it writes answers with: the targets stand behind what it asks."""
    fake_run.write_questions()
    token_audit(fake_run)
    source = (
        "{% for m in messages %}### {{ m['role'] }}\n{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}### response\n{% endif %}"
    )
    monkeypatch.setattr("foretune.evaluate.probes.scope.Scope.tokenizer", fake_run.tokenizer.with_template(source))

    def seen(which: str, before: str, token: str) -> float | None:
        return 4.0 if which == "tuned" and before.rstrip().endswith("### response") else None

    found = {one.name: one for one in observed(seen).templates}
    assert found["serving"].nats > 3 * found["training"].nats and found["serving"].n == found["training"].n


def test_a_serving_template_that_hides_the_answers_leaves_the_losses_of_training_s(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where prompt and answer cannot be told apart as served, targets are read as training wrote them."""
    fake_run.write_questions()
    token_audit(fake_run)
    hiding = fake_run.tokenizer.with_template("{% for m in messages %}{{ m['content'] | upper }} {% endfor %}")
    monkeypatch.setattr("foretune.evaluate.probes.scope.Scope.tokenizer", hiding)
    record = observed()
    assert len(record.losses) == 42 and record.prompt is not None
    assert {one.name for one in record.templates} >= {"training", "tokenizer"}
    token_audit(fake_run, template=None)
    assert record.not_measured.get("losses") is None
    assert "DataError" in observed().not_measured["losses"]


# --- form and content ----------------------------------------------------------------------------------------------


def test_form_without_content_shows(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """A model that names a colour, and always the wrong one, has form and no content."""
    fake_run.write_questions()
    sound = observed().shape
    assert sound is not None and sound.form.value == 1.0 and sound.content_given_form.value == 1.0
    fake_run.tuned.answer = lambda prompt: "blue"
    hollow = observed().shape
    assert hollow is not None and hollow.form.value == 1.0
    assert hollow.content_given_form.value == pytest.approx(hollow.shuffled, abs=0.15)
    assert hollow.content_given_form.value < 0.5
    fake_run.tuned.answer = lambda prompt: "I think that it may be any colour"
    formless = observed().shape
    assert formless is not None and formless.form.value == 0.0 and formless.content_given_form.n == 0


def test_copies_do_not_make_a_label_of_every_target(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Few distinct samples, each many times: a target that was never seen has their form all the same."""
    distinct = [colour(number, f"the answer is number {number} of all") for number in range(6)]
    fake_run.write([replace(one, id=f"{one.id}-{at}") for at in range(20) for one in distinct], [question(100)], [])
    fake_run.tuned.answer = lambda prompt: "the answer is number 99 of all"
    shape = observed().shape
    assert shape is not None and shape.form.value == 1.0


# --- overlap -------------------------------------------------------------------------------------------------------


def test_test_inputs_that_stand_in_training_are_found(
    fake_run: FakeRun, observed: Callable[..., EvidenceRecord]
) -> None:
    """Equal and near-equal inputs, with the score on them and on the rest."""
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau".split()

    def asked(number: int, more: str = "") -> Sample:
        rng = np.random.default_rng(number)
        text = " ".join([*rng.choice(words, 12), more, f"of thing {number}?"])
        turns = (Message("system", "name the colour"), Message("user", text), question(number).messages[-1])
        return Sample(f"s{number}{more}", turns)

    fake_run.write(
        [asked(number) for number in range(30)],
        [asked(number) for number in range(100, 110)],
        [asked(0), asked(1), asked(2, "please"), *(asked(number) for number in range(200, 210))],
    )
    fake_run.evaluate()
    found = observed().overlap
    assert found is not None
    assert (found.num_test, found.num_exact, found.num_near) == (13, 2, 3)
    assert found.score_seen is not None and found.score_seen.n == 3
    assert found.score_clean is not None and found.score_clean.n == 10


# --- production ----------------------------------------------------------------------------------------------------


def production(run: FakeRun, rows: list[dict[str, Any]]) -> None:
    """A sample of production in the job."""
    path = run.folder / "production.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run.settings["data"] = {"production_path": "production.jsonl"}


def asked_of(things: Sequence[str], start: int) -> list[Sample]:
    """Questions about things, each with a word or two of its own."""
    rng = np.random.default_rng(start)
    adjectives = "old new small large round flat heavy light wet dry warm cold".split()
    texts = [
        f"what is the colour of the {rng.choice(adjectives)} {rng.choice(adjectives)} {thing}?" for thing in things
    ]
    return [
        Sample(f"p{start + at}", (Message("user", text), Message("assistant", "blue")), place=f"p.jsonl:{at + 1}")
        for at, text in enumerate(texts)
    ]


def test_production_that_differs_is_told_apart(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """AUC, MMD and coverage of requests about other things; of the same things they show nothing."""
    garden, office = ["rose", "tree", "hedge", "lawn"], ["printer", "invoice", "modem", "keyboard"]
    samples = asked_of(garden * 30, 0)
    fake_run.write(samples, asked_of(garden * 3, 500), [])
    production(fake_run, [sample.to_json() for sample in asked_of(garden * 15, 1000)])
    same = observed().shift
    assert same is not None and same.num_production == 60
    assert same.auc.ci_low < 0.6 and same.uncovered_fraction.ci_low < 0.1
    production(fake_run, [sample.to_json() for sample in asked_of(office * 15, 2000)])
    other = observed().shift
    assert other is not None
    assert other.auc.ci_low > 0.9 and other.mmd_p_value < 0.01 and other.uncovered_fraction.value > 0.9
    assert other.score_production is not None and other.score_production.n == 60
    assert len(other.worst_places) == 10
    assert other.nats_production is not None and other.nats_production.value == pytest.approx(TUNED_NATS)
    assert other.nats_validation is None  # twelve are too few


def test_production_without_targets_has_no_score(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Queries alone are read by whoever can read them, and compared by their inputs."""
    fake_run.write(asked_of(["rose"] * 40, 0), [], [])
    production(fake_run, [{"query": sample.input_text} for sample in asked_of(["rose"] * 25, 1000)])
    queries = [Sample(f"q{at}", sample.messages[:1]) for at, sample in enumerate(asked_of(["rose"] * 25, 1000))]
    found = observed(read_queries=lambda path: queries).shift
    assert found is not None and found.num_production == 25 and found.score_production is None


# --- languages -----------------------------------------------------------------------------------------------------


def test_languages_of_training_and_of_what_is_asked(fake_run: FakeRun, observed: Callable[..., EvidenceRecord]) -> None:
    """Shares as declared or seen, the most asked first."""
    english = Sample("e", (Message("user", "What is the name of the king of the land?"), Message("assistant", "Bob")))
    german = Sample("g", (Message("user", "Wie ist der Name des Königs und der Königin?"), Message("assistant", "Bob")))
    fake_run.settings["data"] = {"languages": ["de:0.8", "en:0.2"]}
    fake_run.write([replace(english, id=f"e{at}") for at in range(9)] + [german], [english], [])
    found = observed().languages
    assert [(one.language, one.asked_fraction, one.train_fraction) for one in found] == [
        ("de", 0.8, pytest.approx(0.1)),
        ("en", 0.2, pytest.approx(0.9)),
    ]


def test_a_run_without_its_records_is_refused(fake_run: FakeRun, tmp_path: Path) -> None:
    """An untrained run has nothing to observe."""
    from foretune.errors import NotFound

    with pytest.raises(NotFound):
        observe(fake_run.job, run_dir=tmp_path / "none", runs_dir=tmp_path)
