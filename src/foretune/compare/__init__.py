"""Which variant is better, on the same samples or on split traffic; empty until the stage is built."""
# SPDX-License-Identifier: Apache-2.0
