"""The catalogue of accelerators: figures, and names as drivers and people write them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import datetime

import pytest

from foretune.hardware import DEVICES, find_device


def memory_gb(name: str) -> float:
    device = find_device(name)
    assert device is not None
    return device.memory_gb


@pytest.mark.req("R419")
def test_rtx_4090_has_24_gb_and_t4_has_16() -> None:
    assert memory_gb("RTX 4090") == 24
    assert memory_gb("T4") == 16


@pytest.mark.req("R420")
def test_a10g_has_24_gb() -> None:
    assert memory_gb("A10G") == 24


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100 80GB PCIe", "A100-80"),
        ("a100-80", "A100-80"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("Radeon RX 7900", None),
        ("", None),
    ],
)
def test_driver_names_are_found(name: str, expected: str | None) -> None:
    device = find_device(name)
    assert (device.name if device else None) == expected


def test_every_device_finds_itself_and_has_a_dated_source() -> None:
    for device in DEVICES:
        assert find_device(device.name) is device
        assert device.source
        assert datetime.date.fromisoformat(device.date) <= datetime.date(2100, 1, 1)
        assert device.half_flops > device.fp32_flops > 1e12
        assert 1e11 < device.bandwidth_bytes_per_second < 1e13


def test_memory_is_decimal_and_h200_has_141_gb() -> None:
    device = find_device("H200")
    assert device is not None
    assert device.memory_bytes == 141_000_000_000


def test_turing_and_volta_have_no_bf16() -> None:
    assert {device.name for device in DEVICES if not device.has_bf16} == {"T4", "V100"}
