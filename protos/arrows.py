"""The arrows between the units: which unit calls which method of which other.

Servers refuse every call that is not drawn here; the deployment's network
policies and the boundary test are checked against the same table.
"""

from collections.abc import Mapping

CALLERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "auth": {
        "Register": frozenset({"gateway"}),
        "Login": frozenset({"gateway"}),
        "Refresh": frozenset({"gateway"}),
        "Keys": frozenset({"gateway"}),
        "ClientToken": frozenset({"gateway"}),
        "Names": frozenset({"gateway"}),
        "SetBan": frozenset({"fraud"}),
    },
    "actions": {
        "Catalogue": frozenset({"gateway"}),
        "CreateType": frozenset({"gateway"}),
        "UpdateType": frozenset({"gateway"}),
        "Issue": frozenset({"gateway"}),
        "Complete": frozenset({"gateway"}),
        "Get": frozenset({"gateway"}),
        "Verify": frozenset({"scores"}),
        "Settle": frozenset({"scores"}),
    },
    "scores": {
        "Award": frozenset({"gateway"}),
        "Receipt": frozenset({"gateway"}),
        "History": frozenset({"gateway"}),
        "Reverse": frozenset({"gateway"}),
        "CreateBoard": frozenset({"gateway"}),
        "Boards": frozenset({"gateway", "realtime"}),
        "Top": frozenset({"gateway", "realtime"}),
        "Around": frozenset({"gateway", "realtime"}),
        "Ranks": frozenset({"gateway"}),
        "WouldBe": frozenset({"gateway"}),
    },
    "fraud": {
        "Judge": frozenset({"scores"}),
        "Report": frozenset({"actions", "scores"}),
        "SanctionsSince": frozenset({"scores", "gateway"}),
    },
    "realtime": {
        "Attach": frozenset({"gateway"}),
    },
}


def callers(unit: str) -> Mapping[str, frozenset[str]]:
    """The callers of each full gRPC method path (`/package.Service/Method`) of `unit`."""
    service = unit.capitalize()
    return {f"/scoreboard.{service}/{method}": who for method, who in CALLERS[unit].items()}
