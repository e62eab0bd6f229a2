# SPDX-License-Identifier: Apache-2.0
"""How many calls this machine holds with a configuration: real calls to a real box until it is too slow."""
