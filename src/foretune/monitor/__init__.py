"""Whether production has drifted and retraining pays; empty until the stage is built."""
# SPDX-License-Identifier: Apache-2.0
