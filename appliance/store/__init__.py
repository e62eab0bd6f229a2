# SPDX-License-Identifier: Apache-2.0
"""What the box remembers: calls, their event logs, usage, appointments. One SQLite file.

    store = Store.open(data_dir / STORE_FILE)
    await store.recover()                          # once, before the first call
    store.begin_call("c1", agent="desk", caller="sip:200@pbx", called="100", started_at=now)
    store.append("c1", [event])                    # never blocks; committed within 200 ms
    await store.sync()                             # all of the above is on the disk
    store.transcript("c1")

`Reader` alone reads the same file from another process.
"""

from appliance.store.errors import (
    SlotTakenError,
    StoreClosedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from appliance.store.outbox import OutboxPart, Upkeep
from appliance.store.policy import Policy
from appliance.store.reader import Reader
from appliance.store.records import Appointment, CallRecord, Event, Line, Usage
from appliance.store.store import STORE_FILE, Store
from appliance.store.transcript import transcript

__all__ = [
    "STORE_FILE",
    "Appointment",
    "CallRecord",
    "Event",
    "Line",
    "OutboxPart",
    "Policy",
    "Reader",
    "SlotTakenError",
    "Store",
    "StoreClosedError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreVersionError",
    "Upkeep",
    "Usage",
    "transcript",
]
