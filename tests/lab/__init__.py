# SPDX-License-Identifier: Apache-2.0
"""Processes and peers that tests and benchmarks share."""
