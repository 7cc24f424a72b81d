"""Embedded Postgres and Redis, as children of this process.

Read `embedded.py`, then `launch.py` (one server being started) and `binaries.py` (where the
binaries are, and which account runs them). `databases.py` makes roles and schemas, `cluster.py`
a Redis Cluster for tests.
"""
