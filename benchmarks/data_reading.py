"""How fast data is read, checked and converted: megabytes a second of one core, and the peak memory of a long file."""

# SPDX-License-Identifier: Apache-2.0
#
# python benchmarks/data_reading.py
#
# CPU seconds, best of five, our reader and its peers by turns in the same run. The peers only parse (`json`, and orjson
# and msgspec where they are installed): they are the floor, not rivals, for we also check every row and build samples.
from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from foretune.data.convert import convert
from foretune.data.faults import RejectedRows
from foretune.data.stream import stream_samples

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ROUNDS = 5
SMALL_MB, LARGE_MB = 20, 1000
PEAK_SCRIPT = """
import sys
from foretune.data.faults import RejectedRows
from foretune.data.stream import stream_samples
with RejectedRows(sys.argv[2]) as rejected:
    num = sum(1 for _ in stream_samples(sys.argv[1], rejected=rejected))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(num, status["VmHWM"].split()[0])
"""


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def alpaca_rows() -> list[dict[str, str]]:
    """Alpaca's rows with a filled answer."""
    rows: list[dict[str, str]] = json.loads((DATA / "alpaca_52k" / "alpaca_data.json").read_text(encoding="utf-8"))
    return [row for row in rows if row["output"].strip()]


def messages_of(row: dict[str, str]) -> dict[str, Any]:
    """An Alpaca row as OpenAI's messages."""
    question = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]}


def long_talks(rows: list[dict[str, str]], num_turns: int = 6) -> Iterator[dict[str, Any]]:
    """Conversations of several turns: what most chat data looks like."""
    for start in range(0, len(rows) - num_turns, num_turns):
        part = rows[start : start + num_turns]
        yield {"messages": [message for row in part for message in messages_of(row)["messages"]]}


def write(path: Path, rows: Any, *, ascii: bool = False) -> Path:
    """Rows as JSONL."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=ascii) + "\n" for row in rows)
    return path


def parsers() -> dict[str, Callable[[bytes], Any]]:
    """Peers that parse a line."""
    found: dict[str, Callable[[bytes], Any]] = {"json": json.loads}
    for name, method in (("orjson", "loads"), ("msgspec.json", "decode")):
        try:
            found[name] = getattr(importlib.import_module(name), method)
        except ImportError:
            continue
    return found


def parse_all(path: Path, parse: Callable[[bytes], Any]) -> int:
    """Only parse every line."""
    with open(path, "rb") as file:
        return sum(1 for line in file if parse(line))


def read_all(path: Path) -> int:
    """Parse, check, and make a sample of every row."""
    return sum(1 for _ in stream_samples(path))


def speeds(files: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Megabytes a CPU second of each reader on each file."""
    result: dict[str, dict[str, float]] = {}
    for name, path in files.items():
        readers: dict[str, Callable[[], object]] = {"foretune": lambda path=path: read_all(path)}  # type: ignore[misc]
        if ".jsonl" in path.suffixes and path.suffix != ".gz":
            for peer, parse in parsers().items():
                readers[f"{peer}, parse only"] = lambda path=path, parse=parse: parse_all(path, parse)  # type: ignore[misc]
        times: dict[str, list[float]] = {reader: [] for reader in readers}
        for _ in range(ROUNDS):
            for reader, work in readers.items():
                times[reader].append(cpu_seconds(work))
        megabytes = path.stat().st_size / 1e6
        result[name] = {reader: megabytes / min(taken) for reader, taken in times.items()}
    return result


def peak_megabytes(path: Path, folder: Path) -> tuple[int, float]:
    """Rows and peak resident memory (MB) of a process that streams a file."""
    command = [sys.executable, "-c", PEAK_SCRIPT, str(path), str(folder / "rejected.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, peak_kb = done.stdout.split()
    return int(count), int(peak_kb) / 1000


def peaks(folder: Path, rows: list[dict[str, str]]) -> dict[str, float]:
    """Peak memory for a short file, one fifty times as long, and one with a line of 100 MB."""
    block = "".join(json.dumps(messages_of(row)) + "\n" for row in rows)
    result: dict[str, float] = {}
    for name, megabytes, long_line in (("20 MB", SMALL_MB, 0), ("1,000 MB", LARGE_MB, 0), ("line of 100 MB", 20, 100)):
        path = folder / "long.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for _ in range(max(1, round(megabytes * 1e6 / len(block)))):
                file.write(block)
            for _ in range(long_line):
                file.write("x" * 1_000_000)
            file.write("\n")
        _, result[f"peak MB, {name}"] = peak_megabytes(path, folder)
        path.unlink()
    return result


def conversions(folder: Path, source: Path) -> dict[str, float]:
    """Megabytes a CPU second of reading, converting, proving and writing."""
    megabytes = source.stat().st_size / 1e6
    result = {}
    for form in ("messages", "sharegpt", "alpaca"):
        target = folder / f"{form}.jsonl"
        result[f"to {form}"] = megabytes / cpu_seconds(lambda: convert(source, target, to=form))  # noqa: B023
    return result


def damaged(folder: Path, rows: list[dict[str, str]]) -> dict[str, float]:
    """Rows lost beyond the damaged ones: every hundredth line is cut in its middle."""
    lines = [json.dumps(messages_of(row)) for row in rows[:20_000]]
    bad = set(range(50, len(lines), 100))
    text = "".join((line[: len(line) // 2] if n in bad else line) + "\n" for n, line in enumerate(lines))
    path = folder / "damaged.jsonl"
    path.write_text(text, encoding="utf-8")
    with RejectedRows(folder / "rejected.jsonl") as rejected:
        num_good = sum(1 for _ in stream_samples(path, rejected=rejected))
    return {
        "damaged rows": len(bad),
        "put aside": rejected.num_rows,
        "good rows lost": len(lines) - len(bad) - num_good,
    }


def measure() -> dict[str, Any]:
    """Every figure; {"skipped": reason} without the data."""
    if not DATA.is_dir():
        return {"skipped": f"no data at {DATA}"}
    rows = alpaca_rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "Alpaca JSONL, 400 bytes a row": write(folder / "alpaca.jsonl", rows),
            "messages JSONL, 430 bytes a row": write(folder / "messages.jsonl", map(messages_of, rows)),
            "messages JSONL, ASCII escapes": write(folder / "ascii.jsonl", map(messages_of, rows), ascii=True),
            "messages JSONL, 6 turns": write(folder / "talks.jsonl", long_talks(rows)),
        }
        array = folder / "array.json"
        array.write_text(json.dumps([messages_of(row) for row in rows]), encoding="utf-8")
        files["messages JSON array"] = array
        files["banking77 CSV"] = DATA / "banking77" / "train.csv"
        return {
            "MB per CPU second": speeds(files),
            "memory": peaks(folder, rows),
            "conversion, MB per CPU second": conversions(folder, files["Alpaca JSONL, 400 bytes a row"]),
            "damage": damaged(folder, rows),
        }


def main() -> None:
    """Print the figures."""
    for title, figures in measure().items():
        print(title)
        if not isinstance(figures, dict):
            print(f"  {figures}")
            continue
        for name, value in figures.items():
            shown = ", ".join(f"{k} {v:.0f}" for k, v in value.items()) if isinstance(value, dict) else f"{value:.1f}"
            print(f"  {name}: {shown}")


if __name__ == "__main__":
    main()
