"""The arrows between the units: which unit calls which method of which other.

Servers refuse every call that is not drawn here; the deployment's network
policies and the boundary test are checked against the same table.
"""

from collections.abc import Mapping

# The methods of a unit, by the units that call them.
_CALLS = {
    "auth": {"gateway": "Register Login Refresh Keys ClientToken Names", "fraud": "SetBan"},
    "actions": {
        "gateway": "Catalogue CreateType UpdateType Issue Complete Get",
        "scores": "Verify Settle Get",
    },
    "scores": {
        "gateway": "Award GiveUp Receipt History Reverse CreateBoard CheckBoard Boards Top Around"
        " Ranks WouldBe",
        "realtime": "Boards Top Around",
        "fraud": "Changes",
    },
    "fraud": {
        "actions": "Report",
        "gateway": "SanctionsSince",
        "scores": "Judge Report SanctionsSince",
    },
    "realtime": {"gateway": "Attach"},
}
CALLERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    unit: {
        method: frozenset(caller for caller in calls if method in calls[caller].split())
        for methods in calls.values()
        for method in methods.split()
    }
    for unit, calls in _CALLS.items()
}

# The one kind of arrow that may point back: a reader of a stream calls its writer, off every path,
# for what it lost. It starts, serves and stops without it.
CATCH_UPS = frozenset({("scores", "Changes")})


def callers(unit: str) -> Mapping[str, frozenset[str]]:
    """The callers of each full gRPC method path (`/package.Service/Method`) of `unit`."""
    service = unit.capitalize()
    return {f"/scoreboard.{service}/{method}": who for method, who in CALLERS[unit].items()}
