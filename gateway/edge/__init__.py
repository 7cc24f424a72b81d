"""What stands before every handler, and around it.

Read `gateway.py` (the outermost), `middleware.py` (before a handler), then `request.py`. On the
way in: `head.py`, `identity.py`, `body.py` with `misfits.py`, `sanctions.py`, `limits.py` with
`peers.py` (how many gateways share a limit) and `idempotency.py`, and their scripts. On the way
out: `errors.py`. `listener.py` holds the port and the drain, `addresses.py` the caller's address.
"""
