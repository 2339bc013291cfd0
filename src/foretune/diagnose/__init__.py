"""Which failure mode is this, what is the evidence, which setting fixes it?"""
# SPDX-License-Identifier: Apache-2.0

from foretune.diagnose.curves import Curves, read_curves
from foretune.diagnose.diagnose import diagnose, next_patch
from foretune.diagnose.evidence import is_lower_better
from foretune.diagnose.live import LiveDiagnosis
from foretune.diagnose.patch import apply_patch
from foretune.diagnose.symptoms import SYMPTOMS, Symptom

__all__ = [
    "SYMPTOMS",
    "Curves",
    "LiveDiagnosis",
    "Symptom",
    "apply_patch",
    "diagnose",
    "is_lower_better",
    "next_patch",
    "read_curves",
]
