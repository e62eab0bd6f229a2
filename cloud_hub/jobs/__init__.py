# SPDX-License-Identifier: Apache-2.0
"""What the hub does by the clock. No process of it is special: any number may run, none need."""
