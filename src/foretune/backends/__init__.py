"""Where a job runs: today a process on this machine."""
# SPDX-License-Identifier: Apache-2.0
