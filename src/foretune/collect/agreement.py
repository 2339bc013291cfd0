"""How far annotators agree beyond chance; the mathematics lies in `foretune.stats.agreement`."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from foretune.stats.agreement import Agreement, Level, agreement, cohen_kappa, krippendorff_alpha

__all__ = ["Agreement", "Level", "agreement", "cohen_kappa", "krippendorff_alpha"]
