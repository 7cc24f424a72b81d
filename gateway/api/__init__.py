"""The REST API: one file for each resource, a class of handlers in each.

A handler takes a request and a decoded body, makes one call, and returns an answer. Read
`accounts.py` for the shape, then any other; `routes.py` above has the addresses. `answers.py`,
`claims.py` and `query.py` are shared, `etags.py` marks what a caller has seen.
"""
