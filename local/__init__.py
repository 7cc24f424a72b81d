"""Local: the whole suite on one machine, for development and tests. Never part of an image."""

import sys

# Here, where the oldest Python can still read it, rather than a traceback further on.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("local: needs Python 3.11 or newer, this is %d.%d" % sys.version_info[:2])  # noqa: UP031
