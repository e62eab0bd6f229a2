# SPDX-License-Identifier: Apache-2.0
"""A real hub, real boxes without telephony, all that can happen to them; then every row is counted.

python -m tests.hub.losses --seconds 120 --boxes 50 --rate 200 --kill all --json FILE
"""
