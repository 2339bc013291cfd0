"""Coverage gaps and drift on banking77 and clinc150: how often a real gap is named, and how often nothing is alarmed.

Run: `python benchmarks/data_coverage.py [repeats]`. Peers of the drift alarm run on the same batches: the count beyond
the 99th percentile (binomial test) and the Kolmogorov-Smirnov test on the same distances.
"""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom, ks_2samp

from foretune.audit.coverage.gaps import cluster_map
from foretune.data.embed.door import has_minilm, nearest, open_embedder
from foretune.data.embed.vectors import Embedder, Vectors
from foretune.stats.drift import examples_needed, tail_drift

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NUM_TRAIN, NUM_PRODUCTION = 2000, 1000
TRAIN_SHARE, PRODUCTION_SHARE = 0.05, 0.20
BATCHES = ((100, 0.05), (100, 0.10), (300, 0.02), (300, 0.05), (1000, 0.01), (1000, 0.02))
# Intents of clinc150 by domain, from domains.json of its repository (clinc/oos-eval, commit 828f809, CC BY 3.0).
DOMAINS = {
    "banking": "freeze_account routing pin_change bill_due pay_bill account_blocked interest_rate min_payment "
    "bill_balance transfer order_checks balance spending_history transactions report_fraud",
    "credit_cards": "replacement_card_duration expiration_date damaged_card improve_credit_score report_lost_card "
    "card_declined credit_limit_change apr redeem_rewards credit_limit rewards_balance application_status "
    "credit_score new_card international_fees",
    "kitchen_and_dining": "food_last confirm_reservation how_busy ingredients_list calories nutrition_info recipe "
    "restaurant_reviews restaurant_reservation meal_suggestion restaurant_suggestion cancel_reservation "
    "ingredient_substitution cook_time accept_reservations",
    "home": "what_song play_music todo_list_update reminder reminder_update calendar_update order_status "
    "update_playlist shopping_list calendar next_song order todo_list shopping_list_update smart_home",
    "auto_and_commute": "current_location oil_change_when oil_change_how uber traffic tire_pressure "
    "schedule_maintenance gas mpg distance directions last_maintenance gas_type tire_change jump_start",
    "travel": "plug_type travel_notification translate flight_status international_visa timezone exchange_rate "
    "travel_suggestion travel_alert vaccines lost_luggage book_flight book_hotel carry_on car_rental",
    "utility": "weather alarm date find_phone share_location timer make_call calculator definition "
    "measurement_conversion flip_coin spelling time roll_dice text",
    "work": "pto_request_status next_holiday insurance_change insurance meeting_schedule payday taxes income "
    "rollover_401k pto_balance pto_request w2 schedule_meeting direct_deposit pto_used",
    "small_talk": "who_made_you meaning_of_life who_do_you_work_for do_you_have_pets what_are_your_hobbies fun_fact "
    "what_is_your_name where_are_you_from goodbye thank_you greeting tell_joke are_you_a_bot how_old_are_you "
    "what_can_i_ask_you",
    "meta": "change_speed user_name whisper_mode yes change_volume no change_language repeat change_accent cancel "
    "sync_device change_user_name change_ai_name reset_settings maybe",
}


class Labelled(NamedTuple):
    """Texts with their intents."""

    texts: list[str]
    labels: np.typing.NDArray[np.str_]


def _banking(name: str) -> Labelled:
    with open(DATA / "banking77" / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Labelled([row["text"].strip() for row in rows], np.array([row["category"] for row in rows]))


def _clinc(*names: str) -> Labelled:
    data = json.loads((DATA / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    rows = [row for name in names for row in data[name]]
    return Labelled([text for text, _ in rows], np.array([label for _, label in rows]))


def measure(repeats: int = 40) -> dict[str, Any]:
    """Rates by embedder; {"skipped": reason} without the data. `repeats` is the number of simulated projects a cell."""
    if not (DATA / "banking77").is_dir() or not (DATA / "clinc150").is_dir():
        return {"skipped": "no banking77 and clinc150 under shared/data"}
    static = DATA / "models" / "model2vec_test"
    specs = ["tfidf", *([str(static)] if static.is_dir() else []), *(["minilm"] if has_minilm() else [])]
    return {"repeats": repeats, "gaps": _gaps(specs, repeats), "drift": _drift(specs, 5 * repeats)}


def _gaps(specs: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    train, test = _banking("train"), _banking("test")
    banking = Labelled([*train.texts, *test.texts], np.concatenate([train.labels, test.labels]))
    clinc = _clinc("train", "val", "test")
    results = []
    for spec in specs:
        for name, data, broad in (("banking77", banking, {}), ("clinc150", clinc, DOMAINS)):
            embedder = open_embedder(spec, corpus=data.texts)
            vectors = embedder.encode(data.texts)
            topics = {"intent": [[label] for label in sorted(set(data.labels.tolist()))]}
            topics |= {"domain": [words.split() for words in broad.values()]} if broad else {}
            for kind, groups in topics.items():
                results.append(
                    {"embedder": embedder.name, "data": name, "topic": kind}
                    | _gap_rates(vectors, data.labels, groups, repeats)
                )
            results.append(
                {"embedder": embedder.name, "data": name, "topic": "none"} | _false_alarms(vectors, 5 * repeats)
            )
    return results


def _gap_rates(
    vectors: Vectors, labels: np.typing.NDArray[np.str_], groups: list[list[str]], repeats: int
) -> dict[str, float]:
    """Named: a gap most of whose production rows are of the topic. Needed: of the rows that the topic truly needs."""
    rng = np.random.default_rng(0)
    named, covered, needed, others, seconds = [], [], [], [], 0.0
    for repeat in range(repeats):
        inside = np.isin(labels, groups[rng.integers(len(groups))])
        train, production = _project(inside, rng)
        start = time.process_time()
        found = cluster_map(vectors[train], vectors[production], seed=repeat)
        seconds += time.process_time() - start
        is_topic = inside[production]
        gaps = [n for n, share in enumerate(found.shares) if share.is_gap]
        right = [n for n in gaps if is_topic[found.production == n].mean() > 0.5]
        counts = {share.name: share.num_train for share in found.shares}
        shares = {share.name: share.production_share for share in found.shares}
        wanted = examples_needed(counts, shares, [str(n) for n in gaps])
        truth = (PRODUCTION_SHARE - TRAIN_SHARE) * NUM_TRAIN / (1 - PRODUCTION_SHARE)
        named.append(bool(right))
        covered.append(float((np.isin(found.production, right) & is_topic).sum() / is_topic.sum()))
        needed.append(sum(wanted[str(n)] for n in right) / truth)
        others.append(len(gaps) > len(right))
    return {
        "named": float(np.mean(named)),
        "topic_rows_covered": float(np.mean(covered)),
        "needed_over_truth": float(np.median(needed)),
        "other_gap_named": float(np.mean(others)),
        "cpu_seconds_each": seconds / repeats,
    }


def _project(inside: np.typing.NDArray[np.bool_], rng: np.random.Generator) -> tuple[Any, Any]:
    """Row numbers of training (topic 5 %) and production (20 %), disjoint; scarce topics are drawn with repetition."""
    topic, rest = rng.permutation(np.flatnonzero(inside)), rng.permutation(np.flatnonzero(~inside))
    asked, have = round(PRODUCTION_SHARE * NUM_PRODUCTION), round(TRAIN_SHARE * NUM_TRAIN)
    cut = min(have, len(topic) * have // (asked + have))
    train = np.concatenate([rng.choice(topic[:cut], have, replace=cut < have), rest[: NUM_TRAIN - have]])
    pool = topic[cut:]
    production = np.concatenate(
        [
            rng.choice(pool, asked, replace=len(pool) < asked),
            rest[NUM_TRAIN - have : NUM_TRAIN - have + NUM_PRODUCTION - asked],
        ]
    )
    return train, production


def _false_alarms(vectors: Vectors, repeats: int) -> dict[str, float]:
    """How often a gap is named where both sides are drawn from the same rows."""
    rng = np.random.default_rng(1)
    alarms = 0
    for repeat in range(repeats):
        order = rng.permutation(len(vectors))
        train, production = order[:NUM_TRAIN], order[NUM_TRAIN : NUM_TRAIN + NUM_PRODUCTION]
        found = cluster_map(vectors[train], vectors[production], seed=repeat)
        alarms += any(share.is_gap for share in found.shares)
    return {"false_alarms": alarms / repeats}


def _drift(specs: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    train, test = _banking("train").texts, _banking("test").texts
    strange = _clinc("oos_train", "oos_val", "oos_test").texts
    results = []
    for spec in specs:
        embedder = open_embedder(spec, corpus=train)
        known, usual, odd = (1.0 - nearest(embedder, texts, train) for texts in (train, test, strange))
        results += [_alarm_rates(embedder, known, usual, odd, size, share, repeats) for size, share in BATCHES]
    return results


def _alarm_rates(
    embedder: Embedder, known: Vectors, usual: Vectors, odd: Vectors, size: int, share: float, repeats: int
) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    num_odd = round(size * share)
    limit = float(np.quantile(known, 0.99))
    rates: dict[str, Any] = {"embedder": embedder.name, "batch": size, "off_topic": share}
    batches = [
        (rng.choice(usual, size), np.append(rng.choice(usual, size - num_odd), rng.choice(odd, num_odd)))
        for _ in range(repeats)
    ]
    for column, which in (("false_alarm", 0), ("alarm", 1)):
        sides = [pair[which] for pair in batches]
        rates[f"{column}_ours"] = float(np.mean([tail_drift(known, side).alarm for side in sides]))
        rates[f"{column}_count99"] = float(
            np.mean([binom.sf((side > limit).sum() - 1, size, 0.01) <= 0.01 for side in sides])
        )
        rates[f"{column}_ks"] = float(np.mean([ks_2samp(known, side, method="asymp").pvalue <= 0.01 for side in sides]))
    return rates


def _table(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        values = (f"{name} {value:.3g}" if isinstance(value, float) else str(value) for name, value in row.items())
        print("  ".join(values), flush=True)


if __name__ == "__main__":
    result = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    if "skipped" in result:
        print(result["skipped"])
    else:
        _table(result["gaps"])
        _table(result["drift"])
