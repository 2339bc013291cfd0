"""What one stage leaves for the next: typed, versioned records in the run folder."""
# SPDX-License-Identifier: Apache-2.0
