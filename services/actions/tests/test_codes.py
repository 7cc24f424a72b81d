"""Every code that actions can answer: how it comes about, and what it leaves as it was."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from chassis import clock, errors
from chassis.errors import Failed
from protos import actions_pb2 as pb
from services.actions import failures
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions

FORMULA, CAPPED, SERVERS = "CODES_FORMULA", "CODES_CAPPED", "CODES_SERVERS"


@dataclass
class Scene:
    """The service, a replica whose Postgres is unavailable, and open plays."""

    actions: Actions
    cut_off: Actions
    play: Play  # of WIN_GAME
    formula: Play  # of a type whose evidence gives 10 to 20 points


OWN = failures.__name__
Act = Callable[[Scene], Awaitable[Any]]
Spoil = Callable[[Play, pb.Claims], None]


@pytest.fixture
async def scene(actions: Actions, cut_off: Actions, pool: asyncpg.Pool) -> Scene:
    there = {one.action_type for one in actions.catalogue.types()}
    if FORMULA not in there:
        await actions.create_type(
            FORMULA, points=0, formula="evidence_points", points_min=10, points_max=20
        )
        await actions.create_type(CAPPED, daily_cap=1, max_open=9)
        await actions.create_type(SERVERS, authoritative=True)
    user = new_user()
    with clock.ahead(-10):
        play = await actions.issue(user)
    return Scene(actions, cut_off, play, await actions.issue(user, FORMULA))


async def state(pool: asyncpg.Pool, scene: Scene) -> list[Any]:
    """All that is kept of the catalogue and of the scene's plays."""
    return [
        await pool.fetchval("SELECT version FROM actions.catalogue"),
        {
            row["action_id"]: json.loads(row["kept"])
            for row in await pool.fetch(
                "SELECT action_id, to_jsonb(a) AS kept FROM actions.actions a WHERE user_id = $1",
                scene.play.user_id,
            )
        },
    ]


def as_it_is(play: Play, claims: pb.Claims) -> None:
    pass


def other_type(play: Play, claims: pb.Claims) -> None:
    claims.action_type = "COMPLETE_QUEST"


def stale(play: Play, claims: pb.Claims) -> None:
    claims.timestamp = stamp(-61)


def wrong_signature(play: Play, claims: pb.Claims) -> None:
    claims.client_signature = "0" * 64


def wrong_checksum(play: Play, claims: pb.Claims) -> None:
    claims.proof.checksum = "no hex"


def no_proof(play: Play, claims: pb.Claims) -> None:
    claims.ClearField("proof")


def too_fast(play: Play, claims: pb.Claims) -> None:
    claims.proof.CopyFrom(play.proof(999, claims.timestamp))


def unknown(play: Play, claims: pb.Claims) -> None:
    claims.action_id = new_user()


def worth(points: int) -> Spoil:
    def spoil(play: Play, claims: pb.Claims) -> None:
        claims.score_increment = points
        claims.client_signature = play.signature(points, claims.timestamp)

    return spoil


def verify(spoil: Spoil, **how: Any) -> Act:
    """Redeeming the token by claims that are right but for what `spoil` does."""

    async def act(scene: Scene) -> Any:
        claims = scene.play.update()
        spoil(scene.play, claims)
        return await scene.actions.verify(scene.play, claims, **how)

    return act


def complete(spoil: Spoil, **how: Any) -> Act:
    """The same for completing without the token."""

    async def act(scene: Scene) -> Any:
        claims = scene.play.completion()
        spoil(scene.play, claims)
        return await scene.actions.complete(scene.play, claims, **how)

    return act


def verify_formula(evidence: bytes, **stated: Any) -> Act:
    async def act(scene: Scene) -> Any:
        claims = scene.formula.prove(completion_ms=0, evidence=evidence, **stated)
        return await scene.actions.verify(scene.formula, claims)

    return act


def complete_formula(evidence: bytes) -> Act:
    async def act(scene: Scene) -> Any:
        claims = scene.formula.completion(completion_ms=0, evidence=evidence)
        return await scene.actions.complete(scene.formula, claims)

    return act


def issue(action_type: str) -> Act:
    async def act(scene: Scene) -> Any:
        return (await scene.actions.results(scene.play.user_id, action_type))[0]

    return act


def later(act: Act) -> Act:
    async def moved(scene: Scene) -> Any:
        with clock.ahead(400):
            return await act(scene)

    return moved


def grant(**fields: Any) -> Act:
    return lambda scene: scene.actions.grant(**fields)


def create(name: str, **fields: Any) -> Act:
    return lambda scene: scene.actions.create_type(name, **fields)


def change(name: str, **fields: Any) -> Act:
    return lambda scene: scene.actions.change_type(name, **fields)


def close(scene: Scene) -> Awaitable[Any]:
    return scene.actions.settle(scene.play, awarded=False)


def finish(scene: Scene) -> Awaitable[Any]:
    return scene.actions.complete(scene.play, scene.play.completion(completion_ms=4000))


def fill(scene: Scene) -> Awaitable[Any]:
    return scene.actions.results(scene.play.user_id, "WIN_GAME", "WIN_GAME")


def use_up(scene: Scene) -> Awaitable[Any]:
    return scene.actions.issue(scene.play.user_id, CAPPED)


def read(scene: Scene) -> Awaitable[Any]:
    return scene.actions.state(Play(new_user(), scene.play.issued))


async def nothing(scene: Scene) -> None:
    pass


# What must be so before, what is done, and its code; what alone may change by it.
CASES: list[tuple[str, Act, Act, str]] = [
    ("TOKEN_INVALID", nothing, verify(as_it_is, token="v1.forged"), ""),
    ("TOKEN_INVALID", nothing, verify(as_it_is, token="nonsense"), ""),
    ("TOKEN_MISMATCH", nothing, verify(other_type), ""),
    ("TOKEN_MISMATCH", nothing, verify(unknown), ""),
    ("TOKEN_MISMATCH", nothing, verify(as_it_is, caller=new_user()), ""),
    ("TOKEN_MISMATCH", nothing, complete(other_type), ""),
    ("TOKEN_EXPIRED", nothing, later(verify(as_it_is)), ""),
    ("TOKEN_EXPIRED", nothing, later(complete(as_it_is)), ""),
    ("ACTION_NOT_FOUND", nothing, complete(unknown), ""),
    ("ACTION_NOT_FOUND", nothing, complete(as_it_is, caller=new_user()), ""),
    ("ACTION_NOT_FOUND", nothing, read, ""),
    ("ACTION_COMPLETED", finish, complete(as_it_is), ""),
    ("ACTION_CLOSED", close, verify(as_it_is), ""),
    ("ACTION_CLOSED", close, complete(as_it_is), ""),
    ("TIMESTAMP_OUT_OF_RANGE", nothing, verify(stale), ""),
    ("TIMESTAMP_OUT_OF_RANGE", nothing, complete(stale), ""),
    ("SCORE_OUT_OF_RANGE", nothing, verify(worth(0)), ""),
    ("SCORE_OUT_OF_RANGE", nothing, verify(worth(1001)), ""),
    ("SCORE_OUT_OF_RANGE", nothing, verify_formula(b'{"points":9}'), ""),
    ("SCORE_OUT_OF_RANGE", nothing, complete_formula(b'{"points":21}'), ""),
    ("SCORE_OUT_OF_RANGE", nothing, grant(score_increment=0), ""),
    ("SCORE_MISMATCH", nothing, verify(worth(51)), "state"),
    ("SCORE_MISMATCH", nothing, verify_formula(b'{"points":15}', stated=16, signed=16), "state"),
    ("SCORE_MISMATCH", nothing, verify_formula(b'{"points":15}', stated=16), ""),
    ("SCORE_MISMATCH", nothing, grant(score_increment=51), ""),
    ("SIGNATURE_INVALID", nothing, verify(wrong_signature), "wrong_signatures"),
    ("SIGNATURE_INVALID", nothing, verify(wrong_checksum), "wrong_signatures"),
    ("SIGNATURE_INVALID", nothing, complete(wrong_checksum), "wrong_signatures"),
    ("PROOF_REQUIRED", nothing, verify(no_proof), ""),
    ("PROOF_REQUIRED", nothing, complete(no_proof), ""),
    ("SUSPICIOUS_ACTIVITY", nothing, verify(too_fast), "state"),
    ("SUSPICIOUS_ACTIVITY", nothing, complete(too_fast), "state"),
    ("TOO_MANY_PENDING", fill, issue("WIN_GAME"), ""),
    ("DAILY_CAP_REACHED", use_up, issue(CAPPED), ""),
    ("ACTION_TYPE_UNKNOWN", nothing, issue("NO_TYPE"), ""),
    ("ACTION_TYPE_UNKNOWN", nothing, issue("no type"), ""),
    ("ACTION_TYPE_UNKNOWN", nothing, grant(action_type="NO_TYPE"), ""),
    ("ACTION_TYPE_AUTHORITATIVE", nothing, issue(SERVERS), ""),
    ("ACTION_TYPE_EXISTS", nothing, create(CAPPED), ""),
    ("ACTION_TYPE_NOT_FOUND", nothing, change("NO_TYPE", points=1), ""),
    ("VALIDATION_FAILED", nothing, create("CODES_BAD", points=0), ""),
    ("VALIDATION_FAILED", nothing, change(CAPPED, points=1001), ""),
    ("VALIDATION_FAILED", nothing, verify_formula(b"{}"), ""),
    ("VALIDATION_FAILED", nothing, complete_formula(b""), ""),
    ("VALIDATION_FAILED", nothing, grant(action_id="nonsense"), ""),
    ("FORBIDDEN", nothing, grant(action_types=[]), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.results(s.play.user_id, "WIN_GAME"), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.complete(s.play, s.play.completion()), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.state(s.play), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.settle(s.play, awarded=True), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.create_type("CODES_NEW"), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.change_type(CAPPED, points=9), ""),
    ("DB_UNAVAILABLE", nothing, lambda s: s.cut_off.grant(action_type="NO_TYPE"), ""),
    ("INVALID", nothing, lambda s: s.actions.results("nobody", "WIN_GAME"), ""),
    ("BATCH_TOO_LARGE", nothing, lambda s: s.actions.results(new_user(), *["X"] * 257), ""),
]


@pytest.mark.parametrize(
    ("code", "prepare", "act", "changes"),
    [pytest.param(*case, id=f"{case[0]}-{place}") for place, case in enumerate(CASES)],
)
async def test_a_code_comes_from_its_cause_and_leaves_all_else_as_it_was(
    scene: Scene, pool: asyncpg.Pool, *, code: str, prepare: Act, act: Act, changes: str
) -> None:
    await prepare(scene)
    before = await state(pool, scene)

    try:
        failure = (await act(scene)).failure
    except Failed as failed:
        failure = failed
    after = await state(pool, scene)

    assert failure.code == code
    changed = {
        name
        for action_id, row in after[1].items()
        for name, value in row.items()
        if value != before[1][action_id][name]
    }
    assert changed == {changes} - {""}
    assert (after[0], after[1].keys()) == (before[0], before[1].keys())


def test_every_code_there_is_has_its_case() -> None:
    own = {
        errors._code(kind.__name__)
        for kind in vars(failures).values()
        if isinstance(kind, type) and issubclass(kind, Failed) and kind.__module__ == OWN
    }
    others = {"FORBIDDEN", "DB_UNAVAILABLE", "INVALID", "BATCH_TOO_LARGE"}

    assert {case[0] for case in CASES} == own | others
