"""What stands before every handler, and around it.

Read `middleware.py` (a request's way in and out), then `request.py` and `router.py`. On the way in:
`body.py`, `identity.py`, `sanctions.py`, `limits.py` with its script, `idempotency.py` with its
script. On the way out: `errors.py`, `etags.py`, `seen.py`. `listener.py` and `traffic.py` hold the
port and the drain, `addresses.py` the caller's address.
"""
