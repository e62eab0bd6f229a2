# SPDX-License-Identifier: Apache-2.0
"""`python -m cloud_hub`: the whole hub; `api` and `jobs` after it: one of its parts alone."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from cloud_hub.auth.mail import MailSettingsError
from cloud_hub.db.addresses import AddressMissingError
from cloud_hub.db.embedded import EmbeddedPostgresError
from cloud_hub.fleet.broker import BrokerError
from cloud_hub.jobs.__main__ import main as jobs
from cloud_hub.recovery import UnknownPersonError, reset_link
from cloud_hub.serve import HubInUseError, HubSettings, serve, serve_api

WHAT = {
    "serve": "the whole hub (this is what happens without a word)",
    "api": "the API for people and programs alone; the database is elsewhere",
    "jobs": "the periodic work alone, as often as wanted; the database is elsewhere",
    "reset-link": "make a link for a person to choose a new password; the hub must be running",
}


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser("cloud_hub", description="The Trunkline hub.")
    words = "; ".join(f"{word}: {meaning}" for word, meaning in WHAT.items())
    parser.add_argument("what", nargs="?", choices=WHAT, default="serve", help=words)
    parser.add_argument("email", nargs="?", help="of the person, with reset-link")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = HubSettings()
    try:
        if arguments.what == "serve":
            asyncio.run(serve(settings))
        elif arguments.what == "api":
            asyncio.run(serve_api(settings))
        elif arguments.what == "jobs":
            jobs()
        elif arguments.email:
            sys.stdout.write(asyncio.run(reset_link(settings, arguments.email)) + "\n")
        else:
            parser.error("reset-link needs the person's e-mail address")
    except UnknownPersonError as error:
        sys.exit(str(error))
    except (
        HubInUseError,
        AddressMissingError,
        BrokerError,
        EmbeddedPostgresError,
        MailSettingsError,
        OSError,
    ) as error:
        sys.exit(f"The hub does not start: {error}")


if __name__ == "__main__":
    main()
