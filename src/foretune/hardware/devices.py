"""A dated catalogue of accelerators: memory, arithmetic speed by type, bandwidth and links, each with its source."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import difflib
import functools
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from foretune.errors import ConfigError
from foretune.units import GB, GIB

__all__ = [
    "CATALOGUE_DATE",
    "DEVICES",
    "Device",
    "DeviceChoice",
    "closest_devices",
    "device_named",
    "find_device",
    "resolve_device",
]

TERA = 1e12
DeviceKind = Literal["gpu", "tpu", "hpu", "npu", "apple", "cpu"]
# A type that a device has no unit for runs on the next one of its list that it has.
STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fp4": ("fp8", "bf16", "fp16", "fp32"),
        "fp8": ("bf16", "fp16", "fp32"),
        "int8": ("bf16", "fp16", "fp32"),
        "bf16": ("fp16", "fp32"),
        "fp16": ("bf16", "fp32"),
        "tf32": ("fp32", "bf16"),
        "fp32": (),
    }
)
UNPUBLISHED_FP32_SHARE = 1 / 8  # of the 16-bit peak, where the vendor gives no fp32 figure (TPU, Gaudi 2)
QUALIFIERS = frozenset(("ti", "super", "laptop", "mobile"))  # a card with one of these is another card
NVL72 = ("GB200", "GB300")  # racks of 72 in one NVLink domain
BRIDGED = ("RTX A5000", "RTX A6000", "A40", "A30", "Quadro RTX 6000", "Quadro RTX 8000", "H100 NVL")
# The usual card of a memory size, for a machine that is described by nothing else.
USUAL_BY_MEMORY: tuple[tuple[float, str], ...] = (
    (8, "RTX 3070"),
    (11, "RTX 2080 Ti"),
    (12, "RTX 3060"),
    (16, "T4"),
    (24, "RTX 3090"),
    (32, "RTX 5090"),
    (40, "A100-40"),
    (48, "RTX A6000"),
    (80, "A100-80"),
    (96, "RTX PRO 6000"),
    (141, "H200"),
    (180, "B200"),
    (192, "MI300X"),
    (256, "MI325X"),
    (288, "B300"),
)
USUAL_DEVICE = "A100-80"
SIZED_FAMILIES = ("a100", "v100", "gh200")  # one name, two memories
LARGEST_RESIZE = 1.35


@dataclass(frozen=True)
class Device:
    """One accelerator, or a class of processors.

    `half_flops` is the dense 16-bit peak with fp32 accumulation in FLOP/s, without sparsity; `tflops` holds the same
    in units of 1e12 for every type that the vendor gives. `memory_gb` is what the vendor's name says, `usable_gib`
    what a process sees in GiB. `link` is the fastest way to the next device of the machine, both directions summed.
    `has_bf16` is false where only fp16 is fast.
    """

    name: str
    names: tuple[frozenset[str], ...]
    kind: DeviceKind
    vendor: str
    memory_gb: float
    usable_gib: float
    tflops: Mapping[str, float] = field(hash=False)
    bandwidth_bytes_per_second: float
    link: str
    link_bytes_per_second: float
    capability: float
    source: str
    usable_source: str
    note: str
    date: str

    @property
    def half_flops(self) -> float:
        """Dense 16-bit peak, FLOP/s."""
        return self.peak_flops("bf16")

    @property
    def fp32_flops(self) -> float:
        """Peak in single precision without tensor cores, FLOP/s."""
        return self.peak_flops("fp32")

    @property
    def has_bf16(self) -> bool:
        """Whether bf16 runs at full speed."""
        return "bf16" in self.tflops

    @property
    def memory_bytes(self) -> int:
        """Memory that the name says, GB = 1e9 bytes."""
        return int(self.memory_gb * GB)

    @property
    def usable_memory_bytes(self) -> int:
        """Memory that one process can have: an "80 GB" A100 shows 79.15 GiB, which is 85.0e9 bytes."""
        return int(self.usable_gib * GIB)

    @property
    def link_domain(self) -> int:
        """How many devices the fast link joins: 72 in an NVL72 rack, 2 by a bridge, 8 in a server."""
        if self.name in NVL72:
            return 72
        if self.name in BRIDGED:
            return 2
        return {"gpu": 8, "tpu": 256, "hpu": 8, "npu": 16}.get(self.kind, 1)

    def peak_flops(self, dtype: str) -> float:
        """Dense peak of `fp32`, `tf32`, `fp16`, `bf16`, `fp8`, `fp4` or `int8` in FLOP/s; a stand-in where it has none.

        Raises ConfigError for another type.
        """
        if dtype not in STAND_INS:
            raise ConfigError(f"arithmetic `{dtype}`: expected one of {', '.join(STAND_INS)}", fix="--precision bf16")
        for kind in (dtype, *STAND_INS[dtype]):
            if kind in self.tflops:
                return self.tflops[kind] * TERA
        return max(self.tflops.values()) * TERA * UNPUBLISHED_FP32_SHARE


class DeviceChoice(NamedTuple):
    """A device and what was assumed to arrive at it."""

    device: Device
    assumptions: tuple[str, ...]


def _read_catalogue() -> tuple[str, tuple[Device, ...]]:
    tree = json.loads(Path(__file__).with_name("devices.json").read_text(encoding="utf-8"))
    date: str = tree["date"]
    return date, tuple(_device_of(row, tree, date) for row in tree["devices"])


def _device_of(row: dict[str, Any], tree: dict[str, Any], date: str) -> Device:
    return Device(
        name=row["name"],
        names=tuple(frozenset(words.split()) for words in row["words"]),
        kind=row["kind"],
        vendor=row["vendor"],
        memory_gb=row["memory_gb"],
        usable_gib=row["usable_gib"],
        tflops=row["tflops"],
        bandwidth_bytes_per_second=row["bandwidth_gb_s"] * GB,
        link=row["link"],
        link_bytes_per_second=row["link_gb_s"] * GB,
        capability=row.get("capability", 0.0),
        source=tree["sources"][row["source"]],
        usable_source=tree["usable_sources"][row["usable_source"]],
        note=row.get("note", ""),
        date=date,
    )


CATALOGUE_DATE, DEVICES = _read_catalogue()


@functools.lru_cache(maxsize=4096)
def find_device(name: str) -> Device | None:
    """The catalogue's entry for a device name as a driver, a cloud or a person gives it, or None.

    `NVIDIA A100-SXM4-80GB`, `Tesla T4`, `rtx4090`, `8xH100` and `A100-80` are all found; the most specific entry
    wins. A size that the name says and the entry has not (`Apple M2 Max 32GB`, `RTX 3080 12GB`) takes its place.
    """
    words = _words(name)
    numbered = words | {f"{word}gb" for word in words if word.isdigit()}
    fits = [
        (len(alias), device, alias)
        for device in DEVICES
        for alias in device.names
        if numbered >= alias and not any(_names_another(word) for word in words - alias)
    ]
    if not fits:
        return None
    _, device, alias = max(fits, key=lambda fit: fit[0])
    return _resized(device, words - alias)


def device_named(name: str) -> Device:
    """The device of that name. Raises ConfigError with the closest names that the catalogue has."""
    device = find_device(name)
    if device is None:
        closest = closest_devices(name)
        hint = f"did you mean {' or '.join(f'`{other}`' for other in closest)}?" if closest else "see docs/plan.md"
        raise ConfigError(
            f"device `{name}` is not in the catalogue; {hint}", fix=f"--gpu {shlex.quote((closest or ('H100',))[0])}"
        )
    return device


def closest_devices(name: str, limit: int = 3) -> tuple[str, ...]:
    """Names of the catalogue that look most like a mistyped one, best first: `H10O` gives `H100`."""
    spelled: dict[str, str] = {}
    for device in DEVICES:
        for text in (device.name, *(" ".join(sorted(alias)) for alias in device.names)):
            spelled.setdefault(_squashed(text), device.name)
    found = difflib.get_close_matches(_squashed(name), list(spelled), n=limit * 2, cutoff=0.6)
    return tuple(dict.fromkeys(spelled[text] for text in found))[:limit]


def resolve_device(name: str = "", memory_gb: float | None = None) -> DeviceChoice:
    """The device that a name, a memory size or neither describes, with the assumptions made.

    Raises ConfigError for a name that neither the catalogue knows nor a size (`24GB card`) explains.
    """
    sized = memory_gb or _stated_gb(_words(name))
    device = find_device(name)
    if device is None:
        if not sized and name.strip():
            return DeviceChoice(device_named(name), ())
        return _usual_device(name, sized)
    family = next((family for family in SIZED_FAMILIES if device.name.lower().startswith(family)), None)
    if family is None or _stated_gb(_words(name)) or re.search(r"-\d+", name):
        return DeviceChoice(device, ())
    if memory_gb:
        sizes = [other for other in DEVICES if re.fullmatch(rf"{family}(-\d+)?", other.name.lower())]
        return DeviceChoice(min(sizes, key=lambda one: abs(one.memory_gb - memory_gb)), ())
    return DeviceChoice(device, (f"`{name}` without its memory: taken as {device.memory_gb:g} GB",))


def _usual_device(name: str, memory_gb: float | None) -> DeviceChoice:
    what = f"`{name.strip()}`" if name.strip() else "no device named"
    if not memory_gb:
        return DeviceChoice(device_named(USUAL_DEVICE), (f"{what}: taken as {USUAL_DEVICE}",))
    usual = min(USUAL_BY_MEMORY, key=lambda pair: abs(pair[0] - memory_gb))[1]
    return DeviceChoice(device_named(usual), (f"{what} with {memory_gb:g} GB: taken as {usual}",))


def _words(name: str) -> frozenset[str]:
    """The words of a device name, with the usual ways to glue them taken apart."""
    text = re.sub(r"\((?:r|tm)\)|[®™]", " ", name.lower())
    text = re.sub(r"^\s*\d+\s*x\s*(?=[a-z])", "", text)
    text = re.sub(r"\b(rtx|gtx|quadro|tesla|geforce)(?=[a-z]*\d)", r"\1 ", text)
    text = re.sub(r"\bpro(?=\d)", "pro ", text)
    text = re.sub(r"(\d)(ada|ti|super|nvl|pcie|sxm)\b", r"\1 \2", text)
    text = re.sub(r"(\d)\s*gi?b\b", r"\1gb", text)
    return frozenset(re.findall(r"[a-z0-9]+", text))


def _names_another(word: str) -> bool:
    """Whether a word that the entry has not means another card: `Ti`, the S of `L40 S`, the mistyped size `8O`."""
    return word in QUALIFIERS or bool(re.fullmatch(r"[a-wyz]|\d+o|o\d+", word))


def _squashed(name: str) -> str:
    """Letters and digits alone, with `o` and `0` as one: they are mistaken for each other."""
    return re.sub(r"[^a-z0-9]|nvidia|geforce|tesla", "", name.lower()).replace("o", "0")


def _stated_gb(words: frozenset[str]) -> float | None:
    sizes = [int(word[:-2]) for word in words if re.fullmatch(r"\d+gb", word)]
    return float(max(sizes)) if sizes else None


def _resized(device: Device, others: frozenset[str]) -> Device:
    """The device with the memory that the name states, where that is another size that it can have."""
    stated = _stated_gb(others)
    if stated is None or abs(stated / device.memory_gb - 1) <= 0.1:
        return device
    smallest = 0.0 if device.kind in ("apple", "cpu") else 0.4
    if not smallest <= stated / device.memory_gb <= LARGEST_RESIZE:
        return device
    share = device.usable_gib / device.memory_gb
    return replace(device, memory_gb=stated, usable_gib=round(stated * share, 2))
