# SPDX-License-Identifier: Apache-2.0
"""The hub under load; see `__main__`."""
