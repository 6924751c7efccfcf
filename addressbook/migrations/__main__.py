"""`python -m addressbook.migrations`: bring the database in SMSGW_DATABASE_URL to the newest schema."""

import os
import sys

from sqlalchemy.exc import OperationalError

from addressbook.migrations import upgrade

if __name__ == "__main__":
    try:
        upgrade(os.environ["SMSGW_DATABASE_URL"])  # not an argument: it may hold a password
    except OperationalError as error:
        sys.exit(f"migrate: {str(error.orig).strip()}")
