# SPDX-License-Identifier: Apache-2.0
"""`python -m appliance.cli`: the same as `trunkline`."""

from appliance.cli import main

main()
