"""The checks of the audit, each a function from the audited data to findings."""
# SPDX-License-Identifier: Apache-2.0
