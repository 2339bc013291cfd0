"""A dated catalogue of accelerators: memory, arithmetic speed and memory bandwidth, each with its source."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from dataclasses import dataclass

from foretune.units import GB

__all__ = ["CATALOGUE_DATE", "DEVICES", "Device", "find_device"]

CATALOGUE_DATE = "2026-11-21"
TERA = 1e12


@dataclass(frozen=True)
class Device:
    """One accelerator. `half_flops` is the dense 16-bit peak with fp32 accumulation, in FLOP/s, without sparsity.

    `words` must all stand in a device name for it to be this one. `has_bf16` is false where only fp16 is fast.
    """

    name: str
    words: tuple[str, ...]
    memory_gb: float
    half_flops: float
    fp32_flops: float
    bandwidth_bytes_per_second: float
    has_bf16: bool
    source: str
    date: str = CATALOGUE_DATE

    @property
    def memory_bytes(self) -> int:
        """Memory on the card, GB = 1e9 bytes."""
        return int(self.memory_gb * GB)


def _device(
    name: str, words: str, memory_gb: float, half: float, fp32: float, gb_per_second: float, source: str
) -> Device:
    has_bf16 = name not in ("T4", "V100")
    bandwidth = gb_per_second * GB
    return Device(name, tuple(words.split()), memory_gb, half * TERA, fp32 * TERA, bandwidth, has_bf16, source)


DEVICES: tuple[Device, ...] = (
    _device("T4", "t4", 16, 65, 8.1, 320, "NVIDIA T4 datasheet"),
    _device("V100", "v100", 16, 125, 15.7, 900, "NVIDIA V100 SXM2 datasheet"),
    _device("RTX 3090", "3090", 24, 71, 35.6, 936, "NVIDIA GA102 whitepaper"),
    _device("A10G", "a10g", 24, 70, 31.5, 600, "AWS g5 instances, NVIDIA A10G"),
    _device("A10", "a10", 24, 125, 31.2, 600, "NVIDIA A10 datasheet"),
    _device("RTX A6000", "a6000", 48, 154.8, 38.7, 768, "NVIDIA GA102 whitepaper"),
    _device("L4", "l4", 24, 121, 30.3, 300, "NVIDIA L4 datasheet"),
    _device("RTX 4090", "4090", 24, 165.2, 82.6, 1008, "NVIDIA Ada whitepaper"),
    _device("L40S", "l40s", 48, 362, 91.6, 864, "NVIDIA L40S datasheet"),
    _device("A100-40", "a100", 40, 312, 19.5, 1555, "NVIDIA A100 datasheet"),
    _device("A100-80", "a100 80gb", 80, 312, 19.5, 2039, "NVIDIA A100 datasheet"),
    _device("H100", "h100", 80, 989, 67, 3350, "NVIDIA H100 SXM datasheet"),
    _device("H100 PCIe", "h100 pcie", 80, 756, 51, 2000, "NVIDIA H100 PCIe datasheet"),
    _device("H200", "h200", 141, 989, 67, 4800, "NVIDIA H200 datasheet"),
)


def find_device(name: str) -> Device | None:
    """The catalogue's entry for a device name as a driver or a person gives it, or None.

    `NVIDIA A100-SXM4-80GB`, `Tesla T4`, `rtx 4090` and `A100-80` are all found; the most specific entry wins.
    """
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    words |= {f"{word}gb" for word in words if word.isdigit()}
    matching = [device for device in DEVICES if words.issuperset(device.words)]
    return max(matching, key=lambda device: len(device.words), default=None)
