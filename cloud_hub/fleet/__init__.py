# SPDX-License-Identifier: Apache-2.0
"""Boxes seen from the hub: who they are, how they connect, what they are told."""
