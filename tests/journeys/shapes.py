"""The shapes of the API's answers, field by field as the contract has them."""

import re
from collections.abc import Mapping
from typing import Any

from scoreboard_client import Client

# A shape is a type, a pattern of a string, a tuple of alternatives (None among them: may be
# null), a list with the shape of its items, or a mapping of fields. A field whose name ends
# with "?" may be missing or null; no other may, and none may be there that is not named.
Shape = Any

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TOKEN = re.compile(r"v1\.[A-Za-z0-9_-]+")
KEY = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes
HEX = re.compile(r"[0-9a-f]{64}")
NONCE = re.compile(r"[A-Za-z0-9_-]{22}")  # 16 bytes

SESSION = {
    "userId": ID,
    "username": str,
    "accessToken": str,
    "refreshToken": str,
    "tokenType": str,
    "expiresIn": int,
}
ACTION_TYPE = {
    "actionType": str,
    "title": str,
    "points": (int, None),
    "minDurationMs": int,
    "maxDurationMs": int,
    "tokenTtlS": int,
    "dailyCap?": int,
    "maxOpen?": int,
    "authoritative": bool,
    "formula?": str,
    "pointsMin?": int,
    "pointsMax?": int,
}
ISSUED = {
    "actionId": ID,
    "actionType": str,
    "actionToken": TOKEN,
    "signingKey": KEY,
    "nonce": NONCE,
    "issuedAt": TIME,
    "expiresAt": TIME,
    "expiresIn": int,
    "scoreIncrement": (int, None),
    "minDurationMs": int,
    "maxDurationMs": int,
}
COMPLETED = {"actionId": ID, "actionToken": TOKEN, "expiresIn": int, "scoreIncrement": int}
AWARD = {
    "actionId": ID,
    "userId": ID,
    "oldScore": int,
    "newScore": int,
    "scoreIncrement": int,
    "rank": (int, None),
    "newRank": (int, None),
    "oldRank": (int, None),
    "version": int,
    "timestamp": TIME,
    "warnings": [str],
    "held": bool,
}
ACTION = {
    "actionId": ID,
    "actionType": str,
    "state": re.compile("requested|completed|awarded|refused|given_up|expired"),
    "issuedAt": TIME,
    "expiresAt": TIME,
}
WINDOW_ENTRY = {"position": int, "rank": int, "userId": ID, "username": str, "score": int}
ENTRY = WINDOW_ENTRY | {"reachedAt": TIME, "removed?": bool}
TOP = {
    "board": str,
    "period": str,
    "entries": [ENTRY],
    "total": int,
    "updatedAt": (TIME, None),
    "degraded": bool,
    "resetsAt?": TIME,
    "nextCursor?": str,
    "seal?": {"hash": HEX, "signature": HEX, "keyId": int, "closedAt": TIME},
}
PLACE = {
    "board": str,
    "period": str,
    "userId": ID,
    "rank": int,
    "score": int,
    "percentile": float,
    "total": int,
    "pointsToNextRank?": int,
    "neighbours": [ENTRY | {"own": bool}],
    "degraded": bool,
}
BOARD = {
    "board": str,
    "title": str,
    "operator": re.compile("sum|best|latest"),
    "order": re.compile("descending|ascending"),
    "ties": re.compile("first_to_reach|shared|dense"),
    "actionTypes": [str],
    "reset": {"every": re.compile("none|day|week|month"), "at": re.compile(r"\d\d:\d\d")},
    "zone": str,
    "window": int,
    "public": bool,
    "resetsAt?": TIME,
}
RANKS = {"board": str, "period": str, "entries": [ENTRY], "degraded": bool}
WOULD_BE = {
    "board": str,
    "period": str,
    "score": int,
    "rank": int,
    "total": int,
    "degraded": bool,
}
ROW = {
    "actionId": ID,
    "kind": re.compile("award|void|restore"),
    "originId?": ID,
    "actionType": str,
    "points": int,
    "oldScore": int,
    "newScore": int,
    "version": int,
    "timestamp": TIME,
}
REVERSED = {
    "userId": ID,
    "dryRun": bool,
    "oldScore": int,
    "newScore": int,
    "rows": [ROW],
    "more": bool,
}
# What the live channel sends a player of an award.
SCORE_UPDATED = {
    "userId": ID,
    "username": str,
    "actionId": ID,
    "board": str,
    "oldScore": int,
    "newScore": int,
    "scoreIncrement": int,
    "oldRank": (int, None),
    "rank": (int, None),
    "version": int,
    "timestamp": TIME,
}

_UUID = "[0-9a-f-]{36}"
_QUERY = r"(\?\S*)?"
_SHAPES: tuple[tuple[str, tuple[Shape, ...]], ...] = (
    ("POST /auth/(register|login|refresh)", (SESSION,)),
    ("GET /actions/types", ({"types": [ACTION_TYPE]},)),
    ("POST /actions/(request|token)", (ISSUED,)),
    ("POST /actions/complete", (AWARD, COMPLETED)),
    (f"GET /actions/{_UUID}", (ACTION,)),
    (f"DELETE /actions/{_UUID}", (None,)),
    ("POST /scores/(update|increment|award)", (AWARD,)),
    (f"GET /me/scores/{_UUID}", (AWARD,)),
    (rf"GET /me/scores{_QUERY}", ({"rows": [ROW], "nextCursor?": str},)),
    (rf"GET /leaderboards{_QUERY}", ({"boards": [BOARD]},)),
    (rf"GET /leaderboards?(/\w+)?{_QUERY}", (TOP,)),
    (rf"GET /leaderboards/\w+/players/(me|{_UUID}){_QUERY}", (PLACE,)),
    (rf"POST /leaderboards/\w+/ranks{_QUERY}", (RANKS,)),
    (rf"GET /leaderboards/\w+/would-be{_QUERY}", (WOULD_BE,)),
    ("GET /admin/action-types", ({"types": [ACTION_TYPE]},)),
    ("POST /admin/action-types", (ACTION_TYPE,)),
    (r"PATCH /admin/action-types/\w+", (ACTION_TYPE,)),
    ("GET /admin/boards", ({"boards": [BOARD]},)),
    ("POST /admin/boards", (BOARD,)),
    ("POST /admin/scores/(void|restore)", (REVERSED,)),
)


class Exacting(Client):
    """A client that takes no answer of another shape than the contract's."""

    async def call(self, method: str, path: str, *arguments: Any, **named: Any) -> Any:
        """Raises AssertionError with all that does not fit."""
        answer = await super().call(method, path, *arguments, **named)
        called = f"{method} {path}"
        allowed = next(shapes for call, shapes in _SHAPES if re.fullmatch(call, called))
        found = [misfits(answer, shape) for shape in allowed]
        assert [] in found, f"{called}: {min(found, key=len)}"
        return answer


def misfits(value: Any, shape: Shape, at: str = "") -> list[str]:
    """What of `value` is not as `shape` says: nothing, if it fits."""
    match shape:
        case tuple():
            found = [misfits(value, alternative, at) for alternative in shape]
            return [] if [] in found else found[0]
        case re.Pattern():
            fits = isinstance(value, str) and shape.fullmatch(value) is not None
        case [items]:
            if isinstance(value, list):
                parts = [misfits(item, items, f"{at}[{n}]") for n, item in enumerate(value)]
                return [misfit for part in parts for misfit in part]
            fits = False
        case Mapping():
            if isinstance(value, Mapping):
                return _misfits_of_fields(value, shape, at)
            fits = False
        case None:
            fits = value is None
        case _:
            fits = type(value) is shape
    return [] if fits else [f"{at or 'answer'} is {value!r}"]


def _misfits_of_fields(value: Mapping[str, Any], shape: Mapping[str, Shape], at: str) -> list[str]:
    expected = {name.removesuffix("?") for name in shape}
    found = [f"{at}.{name} is not expected" for name in value if name not in expected]
    for name, of in shape.items():
        plain = name.removesuffix("?")
        if name != plain and value.get(plain) is None:
            continue
        if plain in value:
            found += misfits(value[plain], of, f"{at}.{plain}")
        else:
            found.append(f"{at}.{plain} is missing")
    return found
