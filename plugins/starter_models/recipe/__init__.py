# SPDX-License-Identifier: Apache-2.0
"""The recipe that makes the starter models."""
