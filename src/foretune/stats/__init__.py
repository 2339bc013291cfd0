"""Statistics on numpy and scipy.special: intervals, paired tests, power, the verdict. No torch, nothing on import."""

# SPDX-License-Identifier: Apache-2.0
