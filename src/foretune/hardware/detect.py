"""This machine: cores, memory, disk and accelerators, read from the system without torch."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foretune.hardware.devices import Device, find_device
from foretune.units import GIB

__all__ = ["Gpu", "Machine", "detect_machine"]

MIB = 1 << 20
GPU_FIELDS = "name,memory.total,memory.free,driver_version,compute_cap"
SMI_SECONDS = 15  # a driver that is just waking up takes several
DEFAULT_CPU_HZ = 2.5e9
# Single-precision operations per core and cycle: two fused multiply-adds of 4, 8 or 16 lanes.
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # Intel and AMD, Intel and AMD, ARM
FLOPS_PER_CYCLE = (("avx512f", 64), ("avx2", 32), ("asimd", 16))
PLAIN_FLOPS_PER_CYCLE = 8


@dataclass(frozen=True)
class Gpu:
    """One accelerator as the driver shows it; `compute_capability` is 0 where the driver does not tell."""

    name: str
    memory_bytes: int
    free_bytes: int
    driver: str
    compute_capability: float

    @property
    def has_bf16(self) -> bool:
        """Whether bf16 is fast: from compute capability 8.0 on."""
        return self.compute_capability >= 8.0

    @property
    def has_fp16(self) -> bool:
        """Whether fp16 is fast: tensor cores, from compute capability 7.0 on."""
        return self.compute_capability >= 7.0

    @property
    def device(self) -> Device | None:
        """The catalogue's entry, or None for a device that it does not know."""
        return find_device(self.name)


@dataclass(frozen=True)
class Machine:
    """What training can use here. Memory in bytes; limits of the container count, not those of the host."""

    cpu_name: str
    num_cores: int
    cpu_hz: float
    flops_per_cycle: int
    memory_bytes: int
    available_memory_bytes: int
    disk_free_bytes: int
    gpus: tuple[Gpu, ...]
    load_average: float = 0.0  # processes that ran or waited for a core in the last minute
    cpu_has_bf16: bool = False  # products of bf16 numbers in hardware, several times as fast as fp32

    @property
    def is_busy(self) -> bool:
        """Whether others leave training less than its share: half as many processes again as there are cores."""
        return self.load_average > 1.5 * self.num_cores

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """Where training runs."""
        return "cuda" if self.gpus else "cpu"

    @property
    def device_name(self) -> str:
        """`NVIDIA A10G`, or the processor with its cores."""
        return self.gpus[0].name if self.gpus else f"{self.cpu_name}, {self.num_cores} cores"

    @property
    def cpu_flops(self) -> float:
        """Theoretical single-precision peak of all usable cores, FLOP/s."""
        return self.num_cores * self.cpu_hz * self.flops_per_cycle

    @property
    def training_memory_bytes(self) -> int:
        """Free memory where the model will live: the first accelerator's, else the system's."""
        return self.gpus[0].free_bytes if self.gpus else self.available_memory_bytes


def detect_machine(folder: str | Path = ".") -> Machine:
    """Look at this machine; `folder` is where runs are written (for free disk). Never raises for what is missing."""
    info = _read("/proc/cpuinfo")
    total, available = _memory()
    return Machine(
        cpu_name=_cpu_name(info),
        num_cores=_num_cores(),
        cpu_hz=_cpu_hz(info),
        flops_per_cycle=_flops_per_cycle(info),
        memory_bytes=total,
        available_memory_bytes=available,
        disk_free_bytes=_disk_free(Path(folder)),
        gpus=_gpus(os.environ),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        cpu_has_bf16=bool(_flags(info) & BF16_FLAGS),
    )


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_name(info: str) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine() or "CPU"


def _cpu_hz(info: str) -> float:
    found = [float(value) * 1e6 for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", info, re.MULTILINE)]
    return max(found, default=DEFAULT_CPU_HZ)


def _flops_per_cycle(info: str) -> int:
    flags = _flags(info)
    return next((flops for flag, flops in FLOPS_PER_CYCLE if flag in flags), PLAIN_FLOPS_PER_CYCLE)


def _flags(info: str) -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    return set(found[1].split()) if found else set()


def _num_cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, _cpu_quota(_read("/sys/fs/cgroup/cpu.max"), usable)))


def _cpu_quota(text: str, usable: int) -> int:
    """Cores that a container may use, rounded up, from `quota period` in microseconds."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return usable
    return -(-int(quota) // int(period))


def _memory() -> tuple[int, int]:
    """Total and available bytes, within the limit of the container."""
    total, available = _system_memory(_read("/proc/meminfo"))
    for limit, used in _cgroup_memory(Path("/sys/fs/cgroup")):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return total, available


def _system_memory(meminfo: str) -> tuple[int, int]:
    values = {name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    total = values.get("MemTotal") or _sysconf("SC_PHYS_PAGES") or 4 * GIB
    return total, values.get("MemAvailable") or _sysconf("SC_AVPHYS_PAGES") or total // 2


def _sysconf(name: str) -> int:
    """Bytes behind a page count of the system, 0 where it has none."""
    if name not in os.sysconf_names:
        return 0
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of this container in bytes, cgroup version 2 then 1; cache that can be dropped is not use."""
    for limit_file, used_file, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _read(root / limit_file).strip(), _read(root / used_file).strip()
        if limit.isdigit() and used.isdigit():
            stat = _read((root / limit_file).parent / "memory.stat")
            cache = re.search(rf"^{cache_name} (\d+)$", stat, re.MULTILINE)
            yield int(limit), int(used) - (int(cache[1]) if cache else 0)


def _disk_free(folder: Path) -> int:
    existing = next((path for path in (folder.resolve(), *folder.resolve().parents) if path.exists()), Path("/"))
    return shutil.disk_usage(existing).free


def _gpus(environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Accelerators that training may see, in its order; none without a driver or when they are hidden."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    command = [smi, f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    if done.returncode != 0:
        return ()
    return _visible(_parse_gpus(done.stdout), environment.get("CUDA_VISIBLE_DEVICES"))


def _parse_gpus(text: str) -> tuple[Gpu, ...]:
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 5 or not parts[1].isdigit():
            continue
        name, total, free, driver, capability = parts
        known = float(capability) if re.fullmatch(r"\d+(\.\d+)?", capability) else 0.0
        gpus.append(Gpu(name, int(total) * MIB, int(free) * MIB if free.isdigit() else 0, driver, known))
    return tuple(gpus)


def _visible(gpus: tuple[Gpu, ...], visible: str | None) -> tuple[Gpu, ...]:
    """CUDA's own rule for numbers: the list ends at the first that does not exist; ids by name are left as they are."""
    if visible is None:
        return gpus
    chosen: list[Gpu] = []
    for part in (part.strip() for part in visible.split(",")):
        if part.startswith(("GPU-", "MIG-")):
            return gpus
        if not part.isdigit() or int(part) >= len(gpus):
            break
        chosen.append(gpus[int(part)])
    return tuple(chosen)
