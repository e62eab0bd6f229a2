# SPDX-License-Identifier: Apache-2.0
"""Benchmarks. Never part of the test suite: they measure, they do not judge."""
