"""Pages of data: findings ranked, rows side by side, maps, steps and differences; escaped, masked, self-contained."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from foretune import api
from foretune.audit.coverage.coverage import coverage, rule_slicer
from foretune.audit.coverage.record import CoverageRecord
from foretune.data.clean.clean import CleanRecord, clean
from foretune.data.clean.recipe import Recipe, Step
from foretune.data.diff import diff_versions
from foretune.data.samples import Message, Sample
from foretune.data.split import Splits
from foretune.data.store import DatasetStore
from foretune.data.world.tasks import template_rows
from foretune.errors import NotFound
from foretune.records.audit import AuditRecord, Finding
from foretune.ui.audited import audit_headline, audit_view
from foretune.ui.cleaned import clean_headline, clean_view, diff_headline, diff_view
from foretune.ui.covered import coverage_headline, coverage_view
from foretune.ui.data_page import write_audit_page, write_clean_page, write_coverage_page, write_diff_page
from foretune.ui.portrait import Rows, lengths_of, read_rows, shown_text
from foretune.ui.run_folder import read_run_folder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
FORBIDDEN = ("http://", "https://", 'src="', "url(", "@import", "<link", "<script", "<img", "<iframe")


def row(user: str, answer: str) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Support chats with copies, a contradiction, an e-mail address and a row that tries to break out."""
    rows = template_rows("support-chat", 160, 0)
    rows += rows[:12]
    rows += [
        row("what is the price of the green garden lamp with the long cable", "it costs 20 euro today"),
        row("what is the price of the green garden lamp with the long cable", "we do not sell lamps any more"),
        row("please write to maria.lopez@firma.es about the chair", "we wrote to maria.lopez@firma.es"),
        row(f"say {EVIL}", f"{EVIL} was said"),
        row(f"say {EVIL}", f"{EVIL} was said"),
    ]
    path = tmp_path_factory.mktemp("planted") / "chats.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(planted: Path) -> str:
    """The page of its audit."""
    target = planted.parent / "audit.html"
    api.audited(planted, at_end=lambda run_dir: write_audit_page(run_dir, target, name=EVIL, run_id="chats-001"))
    return target.read_text(encoding="utf-8")


@pytest.mark.req("R129")
def test_the_audit_page_ranks_findings_and_shows_rows_side_by_side(page: str) -> None:
    assert re.search(r"<h1>(Ready to train|Not ready)", page)
    assert "DATA012" in page and "it costs 20 euro today" in page and "we do not sell lamps any more" in page
    assert page.index("it costs") < page.index("we do not") or page.index("we do not") < page.index("it costs")
    pairs = re.findall(r'<div class="pair">.*?</div>\n?</div>', page, re.DOTALL)
    both = [pair for pair in pairs if "costs" in pair and "do not sell" in pair]
    assert both and both[0].count('class="row-shown"') == 2 and "<mark>" in both[0]
    for part in (
        "Input: rows by tokens",
        "Answer: rows by tokens",
        "Whole row: rows by tokens",
        "cut at 512",
        "of training rows",
    ):
        assert part in page, part
    assert "foretune data recipe chats-001 --accept DATA012 --out clean.toml" in page
    assert re.search(r"Languages</h2>|data-head=\"Languages\">en", page)


def test_personal_data_are_masked_on_the_page(page: str) -> None:
    assert "maria.lopez@firma.es" not in page and "[EMAIL]" in page


def test_evidence_is_masked_too() -> None:
    view = audit_view(audit_of(finding(85, "warning", 0.1, evidence=("ask maria.lopez@firma.es",))), None, None)
    assert view.findings[0].evidence == ("ask [EMAIL]",)


def test_the_audit_page_is_escaped_and_loads_nothing(page: str) -> None:
    for forbidden in FORBIDDEN:
        assert forbidden not in page, forbidden
    assert "&lt;script&gt;alert(1)" in page and "default-src 'none'" in page and "{{ 7*7 }}" in page
    assert "prefers-color-scheme: dark" in page and len(page) < 300_000


def finding(number: int, severity: str, effect: float, **more: object) -> Finding:
    values = {"id": f"DATA{number:03d}", "severity": severity, "title": f"title {number}", "count": 3, "effect": effect}
    return Finding.model_validate({**values, **more})


def audit_of(*findings: Finding) -> AuditRecord:
    return AuditRecord(dataset_version="v1", num_samples=100, findings=findings)


def test_errors_come_first_then_the_largest_effect() -> None:
    record = audit_of(
        finding(1, "info", 0.3),
        finding(2, "warning", 0.02),
        finding(3, "error", 0.0),
        finding(4, "warning", 0.1, certainty=0.5),
    )
    view = audit_view(record, None, None, run_id="")
    assert [one.finding.id for one in view.findings] == ["DATA003", "DATA001", "DATA004", "DATA002"]
    assert [one.rank for one in view.findings] == [1, 2, 3, 4]
    assert view.findings[2].certainty == "50 % of them truly wrong" and view.findings[2].effect.startswith("10.0 %")
    assert all(one.command == "" for one in view.findings)  # nothing to run on
    assert audit_headline(record).sentence == "Not ready to train: 1 error must be mended first."


def test_the_headline_of_an_audit_says_what_is_spoilt() -> None:
    warned = audit_headline(audit_of(finding(2, "warning", 0.02), finding(4, "warning", 0.1)))
    assert warned.sentence == "Ready to train, but 2 findings are worth mending first."
    assert warned.reason == "Together they may spoil up to 12.0 % of the training rows."
    assert audit_headline(audit_of(finding(5, "info", 0.0))).sentence == (
        "Ready to train: nothing that must be mended."
    )


def test_lengths_are_measured_by_part_with_a_tail_in_the_last_bin() -> None:
    rows = [
        Sample(str(n), (Message("user", "a " * (n % 10 + 1)), Message("assistant", "b " * (500 if n == 7 else 2))))
        for n in range(400)
    ]
    found = {lengths.part: lengths for lengths in lengths_of(rows, None)}
    assert set(found) == {"input", "answer", "whole row"} and found["input"].unit == "words"
    assert found["answer"].longest == 500 and found["answer"].median == 2
    assert sum(found["answer"].counts) == 400 and found["answer"].counts[-1] == 1
    assert found["answer"].edges[-1] < 500 and found["whole row"].num_rows == 400
    (text,) = lengths_of([Sample("t", text="one two three")], None)
    assert text.part == "whole row" and text.longest == 3
    assert lengths_of([], None) == ()


def test_classes_of_a_classifier_are_counted(tmp_path: Path) -> None:
    data = tmp_path / "reviews.jsonl"
    words = random.Random(0)
    lines = [
        {"text": f"review {n} {words.random():.6f} {'good' if n % 4 else 'bad'}", "label": "pos" if n % 4 else "neg"}
        for n in range(200)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    target = tmp_path / "page.html"
    api.audited(data, at_end=lambda run_dir: write_audit_page(run_dir, target, name="reviews.jsonl"))
    section = target.read_text(encoding="utf-8").partition('<section id="classes">')[2]
    assert "in 2 classes" in section and section.index(">pos<") < section.index(">neg<")


def test_rows_are_none_where_the_store_is_gone(run_dir: Path) -> None:
    assert read_rows(run_dir) is None and read_rows(run_dir / "nowhere") is None
    assert read_run_folder(run_dir).audit is not None


def test_a_page_does_without_the_rows_of_huge_data(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Rows | None] = []

    def look(run_dir: Path) -> None:
        found.append(read_rows(run_dir))

    api.audited(planted, at_end=look)
    monkeypatch.setattr("foretune.ui.portrait.MOST_ROWS", 100)
    api.audited(planted, at_end=look)
    assert found[0] is not None and len(found[0].by_id) > 100 and found[1] is None


def test_no_audit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        write_audit_page(tmp_path, tmp_path / "x.html", name="x")


def test_shown_texts_are_masked_before_they_are_cut() -> None:
    assert shown_text("mail me at maria.lopez@firma.es " + "x" * 50, 25).startswith("mail me at [EMAIL]")
    assert shown_text("abc", 3) == "abc" and shown_text("abcd", 3) == "abc … (1 more characters)"


def test_rows_are_found_by_id_and_place() -> None:
    rows = Rows({"train": [Sample("a", text="x", place="f:1")], "test": [Sample("a", text="y"), Sample("b", text="z")]})
    assert rows.by_id["a"].text == "x" and rows.by_place["f:1"].id == "a" and set(rows.by_place) == {"f:1"}


# --- coverage -------------------------------------------------------------------------------------------------------

TOPICS = {
    "billing": ("invoice", "charge", "payment", "card", "amount", "bill"),
    "delivery": ("parcel", "courier", "late", "address", "tracking", "door"),
    "returns": ("return", "refund", "label", "box", "broken", "exchange"),
}


def texts(topic: str, count: int, seed: int) -> list[Sample]:
    rng = random.Random(f"{topic}{seed}")
    frames = ("my {} {} is about the {}", "please check {} and {} for {}", "the {} has a {} with {}")
    return [
        Sample(
            f"{topic}{seed}{n}", (Message("user", rng.choice(frames).format(*rng.sample(TOPICS[topic], 3)) + f" {n}"),)
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def covered() -> CoverageRecord:
    """Training without the topic that is 40 % of production, which also names an e-mail address and breaks out."""
    train = texts("delivery", 150, 1) + texts("returns", 150, 1)
    odd = Sample("odd", (Message("user", f"my invoice card payment {EVIL} maria.lopez@firma.es"),))
    production = texts("billing", 120, 2) + texts("delivery", 90, 2) + texts("returns", 90, 2) + [odd]
    slicer = rule_slicer({"billing": ["invoice", "charge", "payment"], "delivery": ["parcel", "courier"]})
    return coverage(train, production, slicer=slicer, embedder="tfidf")


@pytest.mark.req("R158")
def test_the_coverage_page_names_the_gap_and_the_examples_needed(covered: CoverageRecord, tmp_path: Path) -> None:
    head, view = coverage_headline(covered), coverage_view(covered)
    gap = next(one for one in view.gaps if one.topic.kind == "slice")
    assert gap.topic.name == "billing" and gap.needed == f"{gap.topic.needed:,}" and gap.topic.needed > 50
    assert "of what production asks" in head.sentence and "example" in head.sentence
    assert any(one.number == "1" and one.kind == "topic" for one in view.gaps)
    assert view.map is not None and view.map.count("<circle") == view.num_points + sum(
        bool(g.number) for g in view.gaps
    )
    assert "map-gap" in view.map and "map-train" in view.map
    path = write_coverage_page(covered, tmp_path / "c.html", train="t.jsonl", production=EVIL)
    source = path.read_text(encoding="utf-8")
    assert "maria.lopez" not in source and "&lt;script&gt;" in source
    for forbidden in FORBIDDEN:
        assert forbidden not in source, forbidden
    assert "--tasks collect.jsonl" in source and "Words a request" in source


def test_no_gap_is_said_in_one_sentence(tmp_path: Path) -> None:
    record = coverage(texts("delivery", 80, 1), texts("delivery", 80, 2), embedder="tfidf")
    assert record.gaps == ()
    assert coverage_headline(record).sentence == "Training covers what production asks: no gap found."
    source = write_coverage_page(record, tmp_path / "c.html", train="t", production="p").read_text(encoding="utf-8")
    assert "No gap found." in source and "Nothing to collect" in source


def test_marks_of_the_map_do_not_lie_on_each_other() -> None:
    from foretune.ui.data_charts import MapDot, dot_map

    dots = [MapDot(n / 10, n / 7 % 1, "fill map-train", "<b>") for n in range(50)]
    chart = dot_map(dots, [(1.0, 0.5, "1", "one"), (1.0, 0.5, "2", "two"), (1.0, 0.5, "3", "three")], "<map>")
    tops = [float(y) for y in re.findall(r'<circle class="badge" cx="[\d.]+%" cy="([\d.]+)%"', chart)]
    assert len(tops) == 3 and tops[1] - tops[0] >= 6 and tops[2] - tops[1] >= 6
    assert "<b>" not in chart and "<map>" not in chart
    places = [float(x) for x in re.findall(r'cx="([\d.]+)%"', chart)]
    assert min(places) >= 0 and max(places) <= 100
    assert dot_map([], [], "empty").count("<circle") == 0


# --- cleaned versions -----------------------------------------------------------------------------------------------


@pytest.fixture
def cleaned(tmp_path: Path) -> tuple[DatasetStore, str, CleanRecord]:
    """A version of 60 rows, cleaned: 5 left out by id, 10 with blanks put right, 4 copies gone."""
    rng = random.Random(4)
    rows = [
        Sample(
            f"r{n}", (Message("user", f"question {n} {rng.random()}"), Message("assistant", f"answer {rng.random()}"))
        )
        for n in range(60)
    ]
    blanks = [
        Sample(f"b{n}", (Message("user", f"ask {n}"), Message("assistant", f"say {n} {EVIL}   "))) for n in range(10)
    ]
    copies = [Sample(f"c{n}", rows[n + 20].messages) for n in range(4)]
    store = DatasetStore(tmp_path)
    version = store.save(Splits([*rows, *blanks, *copies], rows[:0], rows[:0], seed=0))
    steps = (
        Step(do="drop_ids", params={"ids": [f"r{n}" for n in range(5)]}, why="DATA030 cut off"),
        Step(do="normalise"),
        Step(do="drop_equal", why=EVIL),
    )
    return store, version, clean(store, version, Recipe(steps=steps))


def test_the_clean_page_counts_every_step_with_examples(
    cleaned: tuple[DatasetStore, str, CleanRecord], tmp_path: Path
) -> None:
    store, version, record = cleaned
    head = clean_headline(record)
    assert head.sentence == "9 rows left out, 10 changed, 0 added by 3 steps." and version in head.reason
    view = clean_view(record)
    train = [step for step in view.steps if step.split == "train"]
    assert [(step.do, step.rows) for step in train] == [
        ("drop_ids", "74 → 69"),
        ("normalise", "69 → 69"),
        ("drop_equal", "69 → 65"),
    ]
    assert train[0].params == "ids = 5 values" and train[0].counts == (("left out", "5"),)
    assert all(step.examples == () for step in view.steps)
    source = write_clean_page(record, tmp_path / "k.html", store=store).read_text(encoding="utf-8")
    assert "␣" in source and "DATA030 cut off" in source and "&lt;script&gt;" in source
    for forbidden in FORBIDDEN:
        assert forbidden not in source, forbidden
    assert "nothing to do" in write_clean_page(record, tmp_path / "l.html").read_text(encoding="utf-8")


def test_the_difference_page_shows_each_kind_of_change(
    cleaned: tuple[DatasetStore, str, CleanRecord], tmp_path: Path
) -> None:
    store, version, record = cleaned
    diff = diff_versions(store, version, record.version)
    assert diff_headline(diff).sentence == (
        "19 rows differ: 10 changed, 9 left out, 0 added, 0 moved to another split."
    )
    view = diff_view(diff)
    assert [(group.title, group.count) for group in view.groups] == [("Changed", "10"), ("Left out", "9")]
    assert view.splits[0] == ("train", "74", "65", "−9")
    changed = view.groups[0].rows[0]
    assert any(differs for _, differs in changed.before) and "say" in "".join(text for text, _ in changed.after)
    assert view.groups[1].rows[0].after == ()
    source = write_diff_page(diff, tmp_path / "d.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in source and "<script" not in source
    same = diff_versions(store, version, version)
    assert diff_headline(same).sentence == "The two versions hold the same rows."
    assert diff_view(same).groups == ()


def test_a_change_far_inside_a_long_row_is_shown(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    old, new = (
        store.save(
            Splits([Sample("a", (Message("user", "q"), Message("assistant", "word " * 300 + end)))], [], [], seed=0)
        )
        for end in ("before", "after")
    )
    (group,) = diff_view(diff_versions(store, old, new)).groups
    before = "".join(text for text, _ in group.rows[0].before)
    assert before.startswith("… ") and before.endswith("before") and len(before) < 400
    assert ("before", True) in group.rows[0].before


# --- in a browser ---------------------------------------------------------------------------------------------------

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<body><script>
const frames = FRAMES; let left = frames.length; const found = {};
for (const [name, width] of frames) {
  const f = document.createElement("iframe"); f.style.width = width + "px"; f.style.height = "900px"; f.src = name;
  f.onload = () => { const d = f.contentDocument; d.querySelectorAll("details").forEach(e => e.open = true);
    const e = d.documentElement; const wide = [...d.querySelectorAll("body *")].filter(x =>
      x.getBoundingClientRect().right > e.clientWidth + 1 || (x.scrollWidth > x.clientWidth + 1 &&
      ["auto", "scroll"].includes(getComputedStyle(x).overflowX))).map(x => x.tagName + "." + x.className);
    found[name + " " + width] = [e.scrollWidth, e.clientWidth, wide.slice(0, 5),
    [...d.querySelectorAll("summary,a[href],pre[tabindex]")].filter(x => x.tabIndex < 0).length];
    if (!--left) { const p = document.createElement("p"); p.id = "found"; p.textContent = JSON.stringify(found);
    document.body.append(p); } };
  document.body.append(f);
}
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_no_page_scrolls_sideways_and_all_controls_take_the_keyboard(
    page: str,
    covered: CoverageRecord,
    cleaned: tuple[DatasetStore, str, CleanRecord],
    c: ModuleType,
    run_dir: Path,
    tmp_path: Path,
    write_probe: Callable[[str], str],
) -> None:
    from foretune.ui.compared import write_comparison_page
    from foretune.ui.report import write_report

    from .test_compared import both

    store, version, record = cleaned
    (tmp_path / "audit.html").write_text(page, encoding="utf-8")
    labels = [f"a rather long class name {n}" for n in range(12)]
    confusion = {"labels": labels, "counts": [[int(i == j) * 9 + 1 for j in range(12)] for i in range(12)]}
    c.evaluation(confusion=confusion).write(run_dir)
    shutil.copyfile(write_report(run_dir), tmp_path / "report.html")
    write_coverage_page(covered, tmp_path / "coverage.html", train="t" * 90, production="p" * 90)
    write_clean_page(record, tmp_path / "clean.html", store=store)
    write_diff_page(diff_versions(store, version, record.version), tmp_path / "diff.html")
    write_comparison_page(tmp_path / "compare.html", both())
    names = [f"{name}.html" for name in ("audit", "report", "coverage", "clean", "diff", "compare")]
    frames = [[name, width] for name in names for width in (400, 700, 800, 1400)]
    found = json.loads(write_probe(PROBE.replace("FRAMES", json.dumps(frames))))
    assert len(found) == len(frames)
    for name, (scroll, client, wide, unreachable) in found.items():
        assert scroll <= client and wide == [] and unreachable == 0, (name, wide)


@pytest.fixture
def write_probe(tmp_path: Path) -> Callable[[str], str]:
    """Opens a page in a headless browser and returns what it wrote into its element `found`."""

    def look(source: str) -> str:
        probe = tmp_path / "probe.html"
        probe.write_text(source, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(BROWSER), *flags, profile, "--virtual-time-budget=8000", probe.as_uri()]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        match = re.search(r'<p id="found">(.*?)</p>', result.stdout)
        assert match is not None, result.stderr[-2000:]
        return match[1].replace("&quot;", '"')

    return look
