"""`evaluate`: base and fine-tuned model on the same sealed test samples, and a verdict with its interval."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from foretune.config.job import JobConfig
from foretune.data.tokenizer import Tokenizer
from foretune.errors import ConfigError
from foretune.evaluate.case import LOOK, Case, HeldOut, Which, open_case
from foretune.evaluate.comparison import WITHHELD, Comparison, compare_answers, unknown_label_warnings
from foretune.evaluate.endpoint import open_endpoint
from foretune.evaluate.hosted import Hosted, choose_prompt, hosted_answers, hosted_models
from foretune.evaluate.judge import JUDGE_FILE, Judged, judge_answers
from foretune.evaluate.metrics import Scoring, build_scoring, is_raw_text
from foretune.evaluate.noisy import PREFIX, noisy_scores, noisy_twins
from foretune.evaluate.optimise import Proposal, optimised_prompts, propose
from foretune.evaluate.prompts import Prompt
from foretune.evaluate.rating import human_preferences
from foretune.evaluate.retrieval import read_passages
from foretune.evaluate.selection import Choice, Search, search_prompts
from foretune.evaluate.skills import Scores, compare_skills, forgotten, general_scores, is_pebble
from foretune.evaluate.systems import (
    BASE_FEW_SHOT,
    BASE_ZERO_SHOT,
    FINE_TUNED,
    Progress,
    System,
    answers_of,
    constant_answer,
    constant_system,
    longest_answer_tokens,
)
from foretune.evaluate.texts import compare_texts
from foretune.records.base import write_atomically
from foretune.records.evaluation import ANSWERS_FILE, EvaluationRecord, SkillScore

__all__ = ["HUMAN_QUEUE_FILE", "evaluate"]

HUMAN_QUEUE_FILE = "human_queue.jsonl"
Way = tuple[str, Which, Prompt]  # a name, a model, and how it is asked


def evaluate(
    job: JobConfig,
    *,
    run_dir: Path,
    runs_dir: Path,
    folder: Path,
    reuse_test: bool = False,
    shown_anew: bool = False,
    on_progress: Progress | None = None,
) -> EvaluationRecord:
    """Evaluate the trained run in `run_dir` and write evaluation.json, answers.jsonl and human_queue.jsonl.

    Prompts are chosen on validation samples; the test split is opened once, through the ledger. A killed evaluation
    goes on where it stood. `shown_anew`: a finished one too, with its answers and its look, as only what is shown
    beside the verdict has changed in the job. Raises GateRefused on a second look at the test split unless
    `reuse_test`, NotFound where the run is not trained, ScoreError where a scorer fails.
    """
    case = open_case(job, run_dir=run_dir, runs_dir=runs_dir, folder=folder, on_progress=on_progress)
    if shown_anew and LOOK not in case.journal:
        case.journal.reopen()
    kept = _kept_verdict(case)
    case.refuse_second_look(reuse_test=reuse_test)
    _check_endpoints(job)
    why_no_skills = _why_no_skills(case)
    before = {} if why_no_skills else _general_scores(case, "base")
    if is_raw_text(job, case.train):
        choice = None
        test = case.open_test(reuse_test=reuse_test)
        comparison = compare_texts(case, test)
    else:
        asking = _asking(case)
        choice = asking.choice
        test = case.open_test(reuse_test=reuse_test)
        comparison = _compare(case, asking, test)
    skills = _skills(case, before) if before else []
    if why_no_skills:
        case.warnings.append(why_no_skills)
    record = _record(case, test, comparison, choice, skills)
    _refuse_other_verdict(kept, record)
    _write_lines(run_dir / ANSWERS_FILE, [answer.model_dump(mode="json") for answer in comparison.answers])
    _write_lines(run_dir / HUMAN_QUEUE_FILE, comparison.human_queue)
    if comparison.judged is not None:
        scores = comparison.judged.scores.items()
        _write_lines(run_dir / JUDGE_FILE, [{"sample_id": name, "score": score} for name, score in scores])
    record.write(run_dir)
    if not _has_gaps(record):  # else the next evaluation asks for what is missing, and for nothing else
        case.journal.finish()
    return record


def _has_gaps(record: EvaluationRecord) -> bool:
    """Whether answers of an endpoint, or of the judge, or scores that the verdict waits for, are still to come."""
    is_judged = record.judge is None or not record.judge.num_missing
    is_short = bool(record.gaps) or any(system.num_missing for system in record.systems)
    return is_short or not is_judged or record.reason.startswith(WITHHELD)


def _kept_verdict(case: Case) -> EvaluationRecord | None:
    """The verdict that this evaluation has given already and goes on with; None where it gave none yet."""
    if LOOK not in case.journal or not EvaluationRecord.exists(case.run_dir):
        return None
    record = EvaluationRecord.read(case.run_dir)
    return None if record.reason.startswith(WITHHELD) else record


def _refuse_other_verdict(kept: EvaluationRecord | None, record: EvaluationRecord) -> None:
    """Raise ConfigError where the same answers, scored again, no longer say what was said of them."""
    if kept is None or (kept.delta, kept.verdict) == (record.delta, record.verdict):
        return
    raise ConfigError(
        f"{record.primary_metric} says {record.delta.value:+.4f} of the answers that it said {kept.delta.value:+.4f} "
        "of before: its scorer has changed, and the metric was fixed before training",
        fix="put the scorer back as it was, or judge anew in a new run: foretune run job.toml",
    )


def _check_endpoints(job: JobConfig) -> None:
    """Raise ConfigError for a malformed endpoint or judge before any work."""
    hosted_models(job.evaluate)
    if job.evaluate.judge:
        open_endpoint(job.evaluate.judge, job.evaluate.advanced)


class _Asking(NamedTuple):
    """How the systems are asked and scored, settled before the test split is opened."""

    scoring: Scoring
    choice: Choice
    prompts: dict[str, Prompt]
    max_new_tokens: int
    hosted: list[tuple[Hosted, Prompt]]


def _asking(case: Case) -> _Asking:
    job = case.job
    scoring = build_scoring(job, case.primary, case.own_train, case.folder, case.dataset.task)
    limit = int(
        case.journal.once(
            "max_new_tokens",
            lambda: longest_answer_tokens(case.models.chat("base"), job.evaluate.max_new_tokens, case.own_train),
        )
    )
    library = read_passages(case.folder / Path(job.evaluate.documents).expanduser()) if job.evaluate.documents else None
    search = Search(
        scoring,
        case.own_train,
        case.validation(),
        job.evaluate.few_shot,
        job.evaluate.instructions,
        job.seed,
        library,
    )
    hosted = hosted_models(job.evaluate)
    if job.evaluate.advanced.optimise_prompt and search.validation:
        search = replace(search, proposed=_optimised(case, search, hosted, limit))
    choice = Choice(
        *case.journal.once(
            "prompts",
            lambda: search_prompts(
                search,
                case.models.chat("base"),
                max_new_tokens=limit,
                batch_size=case.batch_size,
                on_progress=case.on_progress,
            ),
        )
    )
    case.warnings += choice.warnings
    prompts = search.chosen(choice)
    ways, tried = _hosted_prompts(case, scoring, hosted, search, prompts, limit)
    return _Asking(scoring, choice._replace(candidates=[*choice.candidates, *tried]), prompts, limit, ways)


def _optimised(case: Case, search: Search, hosted: list[Hosted], limit: int) -> list[Prompt]:
    """Prompts that the optimiser proposes; its steps are kept, and it knows no test sample."""
    count = case.job.evaluate.advanced.optimise_prompt
    endpoint = hosted[0].endpoint if hosted else None
    once = case.journal.once
    rows = once("proposals", lambda: propose(search, count, chat=case.models.chat("base"), endpoint=endpoint))
    proposals = [Proposal(*row) for row in rows]

    def survivors() -> list[str]:
        found = optimised_prompts(
            search,
            proposals,
            case.models.chat("base"),
            max_new_tokens=limit,
            batch_size=case.batch_size,
            once=once,
            on_progress=case.on_progress,
        )
        return [prompt.name for prompt in found]

    by_name = {one.name: one for one in proposals}
    return [by_name[name].prompt(search.examples) for name in once("optimised", survivors)]


def _hosted_prompts(
    case: Case, scoring: Scoring, hosted: list[Hosted], search: Search, prompts: dict[str, Prompt], limit: int
) -> tuple[list[tuple[Hosted, Prompt]], list[dict[str, Any]]]:
    """Each endpoint with the base's prompt that serves it best on validation, and every prompt tried on it."""
    tried = [prompts[name] for name in (BASE_ZERO_SHOT, BASE_FEW_SHOT) if name in prompts]
    ways, rows = [], []
    for one in hosted:
        found = choose_prompt(
            one,
            tried,
            scoring,
            search.validation,
            max_new_tokens=limit,
            once=case.journal.once,
            on_progress=case.on_progress,
        )
        ways.append((one, next(prompt for prompt in tried if prompt.name == found.prompt)))
        rows += found.rows
    return ways, rows


def _compare(case: Case, asking: _Asking, test: HeldOut) -> Comparison:
    heads = {"classify": "the input alone, to the class head", "regress": "the input alone, to the head for a number"}
    how = heads.get(case.job.train.method, "the data's own messages")
    trained = Prompt(FINE_TUNED, f"{how}, as in training")
    twins = noisy_twins(case, test)
    ways: list[Way] = [(name, "base", prompt) for name, prompt in asking.prompts.items()]
    systems: list[System] = []
    noisy: dict[str, System] = {}
    for way in [*ways, (FINE_TUNED, "fine_tuned", trained)]:
        systems.append(_system(case, asking, test, way))
        if twins is not None and way[0] in (asking.choice.baseline, FINE_TUNED):
            noisy[way[0]] = _system(case, asking, twins.held_out, (f"{PREFIX}{way[0]}", *way[1:]))
    clean = {system.name: system for system in systems}
    constant = constant_answer(case.own_train)
    if constant is not None:
        at = next(place for place, system in enumerate(systems) if system.name == FINE_TUNED)
        systems.insert(at, constant_system(constant, len(test.samples)))
    for bits in case.job.evaluate.advanced.quantised:
        which: Which = "fine_tuned_8bit" if bits == "8bit" else "fine_tuned_4bit"
        packed = Prompt(which, f"{trained.description}; weights in {bits}")
        systems.append(_system(case, asking, test, (which, which, packed)))
    systems += [_hosted_system(case, asking, test, one, prompt) for one, prompt in asking.hosted]
    for system in systems:
        case.warnings += system.warnings
    case.warnings += unknown_label_warnings(asking.scoring, test)
    compared = compare_answers(case, asking.scoring, systems, asking.choice.baseline, test)
    compared = compared._replace(judged=_judged(case, systems, asking.choice.baseline, test))
    if twins is None:
        return compared
    return compared._replace(noisy=noisy_scores(case, asking.scoring, clean, noisy, twins))


def _judged(case: Case, systems: list[System], baseline: str, test: HeldOut) -> Judged | None:
    """What the job's judge says of the fine-tuned model and the baseline; None where there is no judge."""
    config = case.job.evaluate
    if not config.judge or not test.samples:
        return None
    by_name = {system.name: system for system in systems}
    found = judge_answers(
        open_endpoint(config.judge, config.advanced),
        test.samples,
        by_name[FINE_TUNED],
        by_name[baseline],
        criteria=config.advanced.rubric,
        num_samples=config.advanced.judge_samples,
        seed=case.job.seed,
        human=human_preferences(case.run_dir),
        once=case.journal.once,
        on_progress=case.on_progress,
    )
    if found.result.gap:
        case.warnings.append(f"judge: {found.result.gap}")
    return found


def _system(case: Case, asking: _Asking, test: HeldOut, way: Way) -> System:
    name, which, prompt = way

    def compute() -> System:
        return answers_of(
            name,
            prompt,
            test.samples,
            case.models.chat(which),
            max_new_tokens=asking.max_new_tokens,
            batch_size=case.batch_size,
            on_progress=case.on_progress,
            once=case.journal.once,
        )

    return System.from_json(case.journal.once(name, compute))


def _hosted_system(case: Case, asking: _Asking, test: HeldOut, hosted: Hosted, prompt: Prompt) -> System:
    return hosted_answers(
        hosted,
        prompt,
        test.samples,
        max_new_tokens=asking.max_new_tokens,
        once=case.journal.once,
        on_progress=case.on_progress,
    )


def _why_no_skills(case: Case) -> str:
    """Why general abilities are not measured; "" where they are."""
    from foretune.models.load import is_encoder_decoder

    if case.job.evaluate.advanced.probe_samples == 0:
        return "general skills were not measured: evaluate.advanced.probe_samples is 0"
    if case.job.train.method in ("classify", "regress"):
        return "general skills were not measured: a head only names classes or numbers, the base model is unchanged"
    if is_encoder_decoder(case.models.base_folder):
        return "general skills were not measured: there is no general probe for encoder-decoder models"
    return ""


def _general_scores(case: Case, which: Which) -> Scores:
    """Scores of one model on the general probe."""

    def compute() -> Scores:
        return general_scores(
            case.models.chat(which),
            knows_skills=is_pebble(case.job.base, Tokenizer.from_folder(case.models.base_folder)),
            num_samples=case.job.evaluate.advanced.probe_samples,
            batch_size=case.batch_size,
            languages=tuple(case.job.data.language_shares),
        )

    scores: Scores = case.journal.once(f"skills_{which}", compute)
    return scores


def _skills(case: Case, before: Scores) -> list[SkillScore]:
    after = _general_scores(case, "fine_tuned")
    lost = forgotten(before, after)
    if lost:
        case.warnings.append(f"the fine-tuned model lost general skills: {', '.join(lost)}")
    return compare_skills(before, after)


def _record(
    case: Case, test: HeldOut, comparison: Comparison, choice: Choice | None, skills: list[SkillScore]
) -> EvaluationRecord:
    judgement = comparison.judgement
    return EvaluationRecord(
        run_id=case.run_dir.name,
        dataset_version=case.dataset.version,
        split="test",
        look=test.look,
        primary_metric=case.primary,
        n=len(test.samples),
        systems=comparison.systems,
        baseline=comparison.baseline,
        candidate=FINE_TUNED,
        delta=judgement.delta,
        smallest_visible_difference=judgement.smallest_visible_difference,
        n_needed=judgement.n_needed,
        margin=case.job.evaluate.advanced.margin,
        verdict=judgement.verdict.value,
        reason=judgement.verdict.reason,
        prompt_choices=tuple(choice.candidates) if choice else (),
        general_skills=tuple(skills),
        noisy=comparison.noisy,
        confusion=comparison.confusion,
        exact_match_rate=comparison.exact_match_rate,
        human_eval_queue=len(comparison.human_queue),
        claims=comparison.beside.claims,
        gates=comparison.beside.gates,
        gaps=comparison.beside.gaps,
        similarity=comparison.similarity,
        judge=comparison.judged.result if comparison.judged else None,
        warnings=tuple(case.warnings),
    )


def _write_lines(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
