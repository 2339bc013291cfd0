"""Coverage: what production asks for and training does not hold, with the examples needed to fill each gap."""
# SPDX-License-Identifier: Apache-2.0
