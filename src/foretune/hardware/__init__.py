"""What a machine is and what it costs: devices with memory and speed, dated prices, and detection without torch."""
# SPDX-License-Identifier: Apache-2.0

from foretune.hardware.detect import Gpu, Machine, detect_machine
from foretune.hardware.devices import DEVICES, Device, find_device
from foretune.hardware.prices import (
    HOURLY_PRICES,
    TRAINING_PRICES,
    HourlyPrice,
    TrainingPrice,
    hourly_prices,
    price_per_hour,
    read_price_file,
    training_price,
    user_prices_path,
)

__all__ = [
    "DEVICES",
    "HOURLY_PRICES",
    "TRAINING_PRICES",
    "Device",
    "Gpu",
    "HourlyPrice",
    "Machine",
    "TrainingPrice",
    "detect_machine",
    "find_device",
    "hourly_prices",
    "price_per_hour",
    "read_price_file",
    "training_price",
    "user_prices_path",
]
