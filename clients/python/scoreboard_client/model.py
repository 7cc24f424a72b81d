"""What the API answers, as values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


class ApiError(Exception):
    """A refusal: `code` is stable, `detail` a sentence, `status` HTTP's.

    `retry_after_s` is 0 where the server gave none; `errors` name the fields of a body
    that did not fit; `problem` is all that the server said, as {"bound": "minDurationMs", …}.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code: str = problem.get("code", f"HTTP_{status}")
        self.detail: str = problem.get("detail", "")
        self.errors: list[Mapping[str, str]] = problem.get("errors", [])
        self.retry_after_s: int = problem.get("retryAfter", 0)
        self.request_id: str = problem.get("requestId", "")
        self.problem = problem
        super().__init__(f"{status} {self.code}: {self.detail}")


@dataclass(frozen=True)
class Limit:
    """So many requests within any such time."""

    requests: int
    window_s: int


def limits(header: str) -> dict[str, Limit]:
    """The limits of a RateLimit-Policy header by their names; of what it is not, none."""
    found = re.findall(r'"([^"]+)";q=(\d{1,9});w=(\d{1,9})', header)
    return {name: Limit(int(requests), int(window_s)) for name, requests, window_s in found}


@dataclass(frozen=True)
class Action:
    """One play: its token, and what is needed to sign for it. Times are RFC 3339.

    `score_increment` is None until the play is verified where a formula computes it.
    """

    action_id: str
    action_type: str
    token: str
    signing_key: str
    nonce: str
    issued_at: str
    expires_at: str
    score_increment: int | None
    min_duration_ms: int
    max_duration_ms: int
    clock_ahead_s: float  # of this machine's clock, the server's

    @classmethod
    def parse(cls, body: Mapping[str, Any], *, clock_ahead_s: float) -> "Action":
        """From the answer to `POST /actions/request`."""
        return cls(**_fields(cls, body, token=body["actionToken"], clock_ahead_s=clock_ahead_s))


@dataclass(frozen=True)
class Award:
    """A change of a score. Ranks are None while the board is unavailable."""

    action_id: str
    user_id: str
    old_score: int
    new_score: int
    score_increment: int
    rank: int | None
    old_rank: int | None
    version: int
    timestamp: str
    warnings: tuple[str, ...]
    held: bool

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "Award":
        """From the answer to a redemption."""
        return cls(**_fields(cls, body, warnings=tuple(body["warnings"])))


def _fields(record: Any, body: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The values of a record's fields: `more`, and else those in `body` by names in camelCase."""
    names = (field.name for field in fields(record) if field.name not in more)
    return more | {name: body[_camel(name)] for name in names}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
