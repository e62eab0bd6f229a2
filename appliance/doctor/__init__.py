# SPDX-License-Identifier: Apache-2.0
"""The doctor: looks at the machine, the network, the models and the phone line; each finding of what
is wrong comes with a remedy. It changes nothing.
"""

from appliance.doctor.finding import Finding, Status
from appliance.doctor.run import box_findings, machine_findings

__all__ = ["Finding", "Status", "box_findings", "machine_findings"]
