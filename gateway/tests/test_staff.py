"""What moderators and administrators do: the catalogue, boards, voiding and restoring awards."""

from typing import Any

import pytest

from chassis.errors import FieldError, Unprocessable
from gateway.tests.edge import Answered, Edge
from gateway.tests.services import ACTION, ADA, ADMIN, AT, AT_MS, BOB, MODERATOR
from protos import actions_pb2
from protos.scores_pb2 import ReverseRequest

API = "/api/v1/admin"
TYPE = {
    "actionType": "NEW",
    "title": "New",
    "points": 5,
    "minDurationMs": 0,
    "maxDurationMs": 10,
    "tokenTtlS": 60,
    "dailyCap": 3,
}
FORMULA = {"formula": "speed", "pointsMin": 1, "pointsMax": 90}
ABSENT = dict.fromkeys(("maxOpen", "formula", "pointsMin", "pointsMax"))
BOARD = {
    "board": "raid",
    "title": "Raid",
    "operator": "best",
    "order": "ascending",
    "ties": "dense",
    "actionTypes": ["WIN_GAME"],
    "reset": {"every": "week", "at": "06:30"},
    "zone": "Europe/Berlin",
    "window": 25,
    "public": False,
}


async def admin(edge: Edge, method: str, path: str, body: Any = None) -> Answered:
    token = edge.fakes.signer.token(BOB, scope=ADMIN)
    return await edge.call(method, API + path, body, token=token)


async def test_an_admin_adds_an_action_type(edge: Edge) -> None:
    answer = await admin(edge, "POST", "/action-types", TYPE)

    assert answer.status == 201
    assert answer.json() == {**TYPE, **ABSENT, "authoritative": False}


async def test_a_type_with_a_formula_has_no_points(edge: Edge) -> None:
    body = {**TYPE, **FORMULA}
    del body["points"]
    answer = await admin(edge, "POST", "/action-types", body)

    assert answer.status == 201
    found = answer.json()
    assert found["points"] is None
    assert {name: found[name] for name in FORMULA} == FORMULA

    del body["formula"]
    refused = await admin(edge, "POST", "/action-types", body)
    assert (refused.status, refused.code) == (422, "VALIDATION_FAILED")
    assert refused.json()["errors"][0]["field"] == "points"


async def test_a_patch_changes_what_it_names_and_null_removes(edge: Edge) -> None:
    answer = await admin(
        edge, "PATCH", "/action-types/WIN_GAME", {"title": "Won", "maxOpen": None, "dailyCap": 9}
    )

    assert answer.status == 200
    assert (answer.json()["title"], answer.json()["points"]) == ("Won", 50)
    assert (answer.json()["maxOpen"], answer.json()["dailyCap"]) == (None, 9)
    sent = edge.fakes.received("UpdateType")
    assert sent.type.action_type == "WIN_GAME"
    assert sorted(sent.fields) == ["daily_cap", "max_open", "title"]
    assert not sent.type.HasField("max_open")


async def test_a_patch_removes_a_formula_or_puts_one_in(edge: Edge) -> None:
    nothing = {"formula": None, "pointsMin": None, "pointsMax": None}
    await admin(edge, "PATCH", "/action-types/NEW", {**nothing, "points": 7})
    await admin(edge, "PATCH", "/action-types/NEW", FORMULA)
    await admin(edge, "PATCH", "/action-types/NEW", {})

    first, second, third = edge.fakes.calls["UpdateType"]
    assert (first.type.formula, first.type.points) == ("", 7)
    assert sorted(first.fields) == ["formula", "points", "points_max", "points_min"]
    assert (second.type.formula, second.type.points_max) == ("speed", 90)
    assert list(third.fields) == []


@pytest.mark.parametrize("body", [{"title": None}, {"points": None}, {"actionType": "X"}, []])
async def test_a_patch_that_does_not_fit_is_refused(edge: Edge, body: Any) -> None:
    answer = await admin(edge, "PATCH", "/action-types/NEW", body)

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert not edge.fakes.calls["UpdateType"]


async def test_an_admin_adds_a_board_and_sees_all(edge: Edge) -> None:
    answer = await admin(edge, "POST", "/boards", BOARD)
    every = await admin(edge, "GET", "/boards")

    assert answer.status == 201
    assert answer.json() == {**BOARD, "resetsAt": None}
    sent = edge.fakes.received("CreateBoard")
    assert (sent.reset, sent.reset_at, sent.zone) == ("week", "06:30", "Europe/Berlin")
    assert [board["board"] for board in every.json()["boards"]] == ["daily", "staff"]


async def test_a_board_s_rules_have_defaults(edge: Edge) -> None:
    answer = await admin(edge, "POST", "/boards", {"board": "b", "title": "B"})

    assert answer.json() == {
        "board": "b",
        "title": "B",
        "operator": "sum",
        "order": "descending",
        "ties": "first_to_reach",
        "actionTypes": [],
        "reset": {"every": "none", "at": "00:00"},
        "zone": "UTC",
        "window": 10,
        "public": True,
        "resetsAt": None,
    }


async def test_action_types_of_a_board_that_do_not_exist_are_named(edge: Edge) -> None:
    types = ["WIN_GAM", "WIN_GAME", "", "win game", "NEW"]
    refused = await admin(edge, "POST", "/boards", {**BOARD, "actionTypes": types})

    assert (refused.status, refused.code) == (422, "VALIDATION_FAILED")
    found = [(error["field"], error["code"]) for error in refused.json()["errors"]]
    assert found == [(f"actionTypes[{place}]", "UNKNOWN") for place in (0, 2, 3, 4)]
    assert not edge.fakes.calls["CreateBoard"]


async def test_they_are_named_with_all_that_scores_refuses(edge: Edge) -> None:
    errors = [
        FieldError("operator", "UNKNOWN", "must be one of sum, best, latest"),
        FieldError("actionTypes[1]", "PATTERN", "must match [A-Z][A-Z0-9_]{1,39}"),
    ]
    edge.fakes.answers["CheckBoard"] = Unprocessable(code="VALIDATION_FAILED", errors=errors)
    body = {**BOARD, "operator": "mean", "actionTypes": ["WIN_GAM", "win game"]}
    refused = await admin(edge, "POST", "/boards", body)

    assert refused.code == "VALIDATION_FAILED"
    found = [(error["field"], error["code"]) for error in refused.json()["errors"]]
    assert found == [
        ("operator", "UNKNOWN"),
        ("actionTypes[1]", "PATTERN"),
        ("actionTypes[0]", "UNKNOWN"),
    ]


async def test_a_type_that_was_just_made_is_looked_for(edge: Edge) -> None:
    """By its name, so that a process of actions that has not seen it yet loads it."""

    def catalogue(request: actions_pb2.CatalogueRequest) -> actions_pb2.CatalogueReply:
        types = [actions_pb2.ActionType(action_type=name) for name in request.needed]
        return actions_pb2.CatalogueReply(types=types)

    edge.fakes.answers["Catalogue"] = catalogue

    assert (await admin(edge, "POST", "/boards", {**BOARD, "actionTypes": ["NEW"]})).status == 201


async def test_a_board_of_all_types_needs_no_catalogue(edge: Edge) -> None:
    await admin(edge, "POST", "/boards", {"board": "b", "title": "B"})

    assert not edge.fakes.calls["Catalogue"]


@pytest.mark.parametrize(("path", "kind"), [("void", "VOID"), ("restore", "RESTORE")])
async def test_a_moderator_reverses_awards_and_gets_the_rows(
    edge: Edge, path: str, kind: str
) -> None:
    body = {
        "userId": ADA,
        "from": "2027-01-15T08:00:00.123456789Z",
        "to": "2027-01-15T09:30:00.1+01:30",
        "actionIds": [ACTION],
        "reason": "a bot",
        "dryRun": True,
    }
    token = edge.fakes.signer.token(BOB, scope=MODERATOR)
    answer = await edge.call("POST", f"{API}/scores/{path}", body, token=token)

    assert answer.json() == {
        "userId": ADA,
        "dryRun": True,
        "oldScore": 100,
        "newScore": 50,
        "rows": [
            {
                "actionId": "0190a000-0000-7000-8000-0000000000ab",
                "kind": "void",
                "originId": ACTION,
                "actionType": "WIN_GAME",
                "points": -50,
                "oldScore": 100,
                "newScore": 50,
                "version": 3,
                "timestamp": AT,
            }
        ],
        "more": False,
    }
    sent = edge.fakes.received("Reverse")
    assert sent.kind == ReverseRequest.Kind.Value(kind)
    assert (sent.user_id, sent.actor, sent.reason) == (ADA, BOB, "a bot")
    assert (sent.from_ms, sent.to_ms) == (AT_MS, AT_MS - 23)
    assert list(sent.action_ids) == [ACTION]
    assert sent.dry_run


async def test_a_reversal_without_bounds_is_of_all(edge: Edge) -> None:
    await admin(edge, "POST", "/scores/void", {"userId": ADA, "reason": "x", "dryRun": False})

    sent = edge.fakes.received("Reverse")
    assert not sent.HasField("from_ms")
    assert not sent.HasField("to_ms")
    assert not sent.action_ids
    assert not sent.dry_run


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2027-13-01T00:00:00Z"}, "to"),
        ({"to": "2027-01-01T00:00:00"}, "to"),
        ({"reason": ""}, "reason"),
        ({"reason": None}, "reason"),
        ({"dryRun": None}, "dryRun"),
        ({"userId": "ada"}, "userId"),
        ({"actionIds": ["x"]}, "actionIds[0]"),
        ({"all": True}, "all"),
    ],
)
async def test_a_reversal_that_does_not_fit_is_named(
    edge: Edge, changed: dict[str, Any], field: str
) -> None:
    body = {"userId": ADA, "reason": "x", "dryRun": True, **changed}
    answer = await admin(edge, "POST", "/scores/void", body)

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == field
    assert not edge.fakes.calls["Reverse"]
