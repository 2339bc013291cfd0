"""Detection of the machine: from files of the system and the driver's own tool, both of them faked here."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from foretune.hardware import Machine, detect, detect_machine
from foretune.units import GIB

SMI = "NVIDIA A10G, 23028, 22500, 550.54.15, 8.6\nTesla T4, 15360, 15000, 550.54.15, 7.5\n"


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, code: int = 0) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({output!r})\nsys.exit({code})\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = detect_machine(tmp_path / "runs" / "not-yet-there")
    assert 1 <= machine.num_cores <= (os.cpu_count() or 1)
    assert 0 < machine.available_memory_bytes <= machine.memory_bytes
    assert machine.disk_free_bytes > 0
    assert machine.cpu_flops > 1e9
    assert machine.gpus == ()
    assert machine.kind == "cpu"
    assert machine.training_memory_bytes == machine.available_memory_bytes
    assert machine.cpu_name in machine.device_name


def test_gpus_are_read_from_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, SMI)
    machine = detect_machine(tmp_path)
    assert [gpu.name for gpu in machine.gpus] == ["NVIDIA A10G", "Tesla T4"]
    first, second = machine.gpus
    assert first.memory_bytes == 23028 * 2**20
    assert (first.has_bf16, second.has_bf16) == (True, False)
    assert first.device is not None and first.device.name == "A10G"
    assert machine.kind == "cuda"
    assert machine.device_name == "NVIDIA A10G"
    assert machine.training_memory_bytes == 22500 * 2**20


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("1", ["Tesla T4"]), ("1,0", ["Tesla T4", "NVIDIA A10G"]), ("0,7,1", ["NVIDIA A10G"])],
)
def test_hidden_gpus_are_not_counted(
    visible: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_smi(tmp_path, monkeypatch, SMI)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in detect_machine(tmp_path).gpus] == names


@pytest.mark.parametrize(
    ("output", "code"),
    [("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9), ("garbage\n\n", 0)],
)
def test_a_broken_driver_means_no_gpu(output: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, output, code)
    assert detect_machine(tmp_path).gpus == ()


def test_unknown_values_of_a_gpu_do_not_break_it() -> None:
    (gpu,) = detect._parse_gpus("Orin, 1024, [N/A], 1.0, [N/A]\n")
    assert (gpu.free_bytes, gpu.compute_capability, gpu.device) == (0, 0.0, None)


def test_memory_of_the_system() -> None:
    text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n"
    assert detect._system_memory(text) == (16384 * 1024, 8192 * 1024)
    total, available = detect._system_memory("")
    assert 0 < available <= total


def test_the_containers_limit_counts_and_its_cache_does_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert list(detect._cgroup_memory(tmp_path)) == [(4 * GIB, 2 * GIB)]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(detect._cgroup_memory(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000\n", 2), ("50000 100000", 1), ("max 100000", 8), ("", 8), ("5 0", 8)]
)
def test_core_quota_of_a_container(text: str, cores: int) -> None:
    assert detect._cpu_quota(text, 8) == cores


def test_processor_text() -> None:
    info = "model name\t: ACME  X1\ncpu MHz\t\t: 3000.5\nflags\t\t: fpu avx avx2\n"
    assert detect._cpu_name(info) == "ACME X1"
    assert detect._cpu_hz(info) == pytest.approx(3.0005e9)
    assert detect._flops_per_cycle(info) == 32
    assert detect._flops_per_cycle("flags : avx2 avx512f") == 64
    assert detect._flops_per_cycle("") == 8


def test_peak_of_the_processor() -> None:
    machine = Machine("X", 4, 2e9, 32, 8 * GIB, 6 * GIB, GIB, ())
    assert machine.cpu_flops == 4 * 2e9 * 32
    assert machine.device_name == "X, 4 cores"
