"""The catalogue of accelerators: figures, and names as drivers, clouds, reports and people write them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import datetime
import shlex
from pathlib import Path

import pytest

from foretune.errors import ConfigError
from foretune.hardware import DEVICES, Device, closest_devices, device_named, find_device, resolve_device

OBSERVATIONS = Path(__file__).parents[4] / "shared" / "observations.csv"


def device(name: str) -> Device:
    found = find_device(name)
    assert found is not None
    return found


@pytest.mark.req("R419")
def test_rtx_4090_has_24_gb_and_t4_has_16() -> None:
    assert device("RTX 4090").memory_gb == 24
    assert device("T4").memory_gb == 16


@pytest.mark.req("R420")
def test_a10g_has_24_gb() -> None:
    assert device("A10G").memory_gb == 24


@pytest.mark.req("R071")
def test_the_catalogue_has_gpus_and_tpus() -> None:
    assert {"gpu", "tpu", "hpu", "apple", "cpu"} <= {one.kind for one in DEVICES}
    assert device("TPU v5p").memory_gb == 95


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("RTX4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100-32"),
        ("V100-16", "V100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100 80GB PCIe", "A100-80 PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100-40 PCIe"),
        ("a100-80", "A100-80"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("H100-SXM5-80GB", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("H200-NVL-141GB", "H200 NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("Blackwell GPU (B200-SXM-180GB)", "B200"),
        ("Blackwell Ultra GPU (GB300)", "GB300"),
        ("AMD Instinct MI300X 192GB HBM3", "MI300X"),
        ("Intel(R) Gaudi(R) 2 AI Accelerator", "Gaudi 2"),
        ("TPU-trillium", "TPU v6e"),
        ("v5litepod-16", "TPU v5e"),
        ("RTX6000Ada", "RTX 6000 Ada"),
        ("RTX6000", "Quadro RTX 6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000"),
        ("A5000", "RTX A5000"),
        ("8xH100", "H100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("Apple M3 Max", "Apple M3 Max"),
        ("cpu", "CPU desktop"),
        ("Radeon RX 7900", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("RTX 3070 Ti", None),
        ("", None),
    ],
)
def test_names_are_found(name: str, expected: str | None) -> None:
    found = find_device(name)
    assert (found.name if found else None) == expected


@pytest.mark.skipif(not OBSERVATIONS.is_file(), reason="the observations are not in this checkout")
def test_every_device_of_the_observations_is_found() -> None:
    with OBSERVATIONS.open(newline="", encoding="utf-8") as file:
        named = {row["gpu"] for row in csv.DictReader(file)} - {"", "24GB card"}
    assert len(named) > 30
    assert {name for name in named if find_device(name) is None} == set()
    assert resolve_device("24GB card").device.memory_gb == 24


def test_every_device_finds_itself_and_has_a_dated_source() -> None:
    assert len({one.name for one in DEVICES}) == len(DEVICES) >= 100
    for one in DEVICES:
        assert find_device(one.name) is one
        assert one.source and one.usable_source
        assert datetime.date.fromisoformat(one.date) <= datetime.date(2100, 1, 1)
        assert one.half_flops >= one.fp32_flops > 5e11
        assert 2e10 < one.bandwidth_bytes_per_second < 1e13
        assert one.link_bytes_per_second > 2e10
        assert one.link_domain >= 1


def test_a_process_sees_about_the_memory_of_the_name() -> None:
    for one in DEVICES:
        if one.kind == "gpu":
            assert 0.9 < one.usable_memory_bytes / one.memory_bytes < 1.08, one.name
    assert device("A100-80").usable_memory_bytes == pytest.approx(85.0e9, rel=0.001)


def test_memory_is_decimal_and_h200_has_141_gb() -> None:
    assert device("H200").memory_bytes == 141_000_000_000


def test_only_devices_before_ampere_and_the_first_apple_and_processors_have_no_bf16() -> None:
    without = {one.name for one in DEVICES if not one.has_bf16 and one.kind == "gpu"}
    assert without == {name for name in without if device(name).capability < 8}
    assert {"T4", "V100", "P100"} <= without
    assert not device("M1 Max").has_bf16 and device("M2 Max").has_bf16


def test_a_type_without_a_unit_runs_on_the_next_one() -> None:
    assert device("T4").peak_flops("bf16") == 65e12
    assert device("A100-80").peak_flops("fp8") == 312e12
    assert device("H100").peak_flops("fp8") == 1979e12
    assert device("B200").peak_flops("fp4") == 9000e12
    assert device("TPU v5e").fp32_flops == pytest.approx(393e12 / 8)
    with pytest.raises(ConfigError, match="`fp7`: expected one of"):
        device("T4").peak_flops("fp7")


def test_faster_types_are_not_slower() -> None:
    for one in DEVICES:
        assert one.peak_flops("fp8") >= one.peak_flops("bf16") >= one.peak_flops("fp32"), one.name


def test_a_stated_size_takes_the_place_of_the_usual_one() -> None:
    mac = device("Apple M2 Max 32GB")
    assert (mac.memory_gb, mac.usable_gib) == (32, 24)
    assert device("RTX 3080 12GB").memory_gb == 12
    assert device("H100 640GB").memory_gb == 80


@pytest.mark.parametrize(
    ("name", "first"),
    [("H10O", "H100"), ("h1oo", "H100"), ("RTX409", "RTX 4090"), ("A100-8O", "A100-80"), ("L40 S", "L40S")],
)
def test_a_typing_error_is_answered_with_the_closest_name(name: str, first: str) -> None:
    assert closest_devices(name)[0] == first
    with pytest.raises(ConfigError, match="did you mean") as caught:
        device_named(name)
    assert caught.value.fix == f"--gpu {shlex.quote(first)}"


def test_a_name_like_nothing_is_an_error_without_a_guess() -> None:
    assert closest_devices("banana") == ()
    with pytest.raises(ConfigError, match="not in the catalogue"):
        resolve_device("banana")


def test_a_device_is_chosen_from_a_size_or_from_nothing_and_says_so() -> None:
    assert resolve_device("", 48).device.name == "RTX A6000"
    assert resolve_device("", 48).assumptions == ("no device named with 48 GB: taken as RTX A6000",)
    assert resolve_device().assumptions == ("no device named: taken as A100-80",)
    assert resolve_device("A100").assumptions == ("`A100` without its memory: taken as 40 GB",)
    assert resolve_device("A100", 79.2).device.name == "A100-80"
    assert resolve_device("A100-80").assumptions == ()
    assert resolve_device("H100").assumptions == ()
