"""Tests of what an action is worth: fixed, or computed from its proof by a formula."""

import asyncio

import asyncpg
import pytest

from chassis import clock
from chassis.ids import uuid7
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions

FORTY = b'{"points":40}'


@pytest.fixture
async def computed(actions: Actions, type_name: str) -> str:
    """A type whose plays are worth 10 to 100 points, as their evidence says."""
    await actions.create_type(
        type_name,
        points=77,  # which plays no part
        formula="evidence_points",
        points_min=10,
        points_max=100,
        token_ttl_s=300,
        max_open=100,
    )
    return type_name


async def test_the_catalogue_says_how_points_are_computed(actions: Actions, computed: str) -> None:
    reply = await actions.gateway.Catalogue(pb.CatalogueRequest())
    (listed,) = (one for one in reply.types if one.action_type == computed)

    assert (listed.formula, listed.points_min, listed.points_max) == ("evidence_points", 10, 100)


async def test_fixed_points_are_returned_at_once_and_computed_ones_by_the_proof(
    actions: Actions, computed: str
) -> None:
    fixed, play = [await actions.issue(new_user(), name) for name in ("WIN_GAME", computed)]
    with clock.ahead(2):
        first = await actions.verify(fixed, fixed.prove(completion_ms=1500))
        second = await actions.verify(play, play.prove(completion_ms=0, evidence=FORTY))

    assert fixed.issued.score_increment == 50
    assert first.points == 50
    assert not play.issued.HasField("score_increment")
    assert second.points == 40
    assert not second.HasField("failure")


async def test_completing_returns_the_points_and_seals_them(
    actions: Actions, computed: str
) -> None:
    play = await actions.issue(new_user(), computed)

    done = await actions.complete(play, play.completion(completion_ms=0, evidence=FORTY))
    at = stamp()
    claims = pb.Claims(timestamp=at, client_signature=play.signature(40, at))
    result = await actions.verify(play, claims, token=done.completed.action_token)
    claims.score_increment = 41
    claims.client_signature = play.signature(41, at)
    other = await actions.verify(play, claims, token=done.completed.action_token)

    assert done.completed.score_increment == 40
    assert result.points == 40
    assert not result.HasField("failure")
    assert (other.failure.code, other.closes) == ("SCORE_MISMATCH", True)


async def test_a_repeated_completion_returns_the_points_it_had(
    actions: Actions, computed: str
) -> None:
    play = await actions.issue(new_user(), computed)
    claims = play.completion(completion_ms=0, evidence=FORTY)
    first = await actions.complete(play, claims)
    await actions.change_type(computed, formula="time_bonus", points_min=70, points_max=70)

    again = await actions.complete(play, claims)
    at = stamp()
    result = await actions.verify(
        play,
        pb.Claims(timestamp=at, client_signature=play.signature(40, at)),
        token=again.completed.action_token,
    )

    assert first.completed.score_increment == again.completed.score_increment == 40
    assert result.points == 40


@pytest.mark.parametrize(
    ("evidence", "code", "fields"),
    [
        (b"", "VALIDATION_FAILED", ["proof.evidence"]),
        (b'{"level":3}', "VALIDATION_FAILED", ["proof.evidence.points"]),
        (b'{"points":"40"}', "VALIDATION_FAILED", ["proof.evidence.points"]),
        (b'{"points":9}', "SCORE_OUT_OF_RANGE", []),
        (b'{"points":101}', "SCORE_OUT_OF_RANGE", []),
    ],
)
async def test_evidence_that_gives_no_points_is_refused_and_may_be_mended(
    actions: Actions, computed: str, evidence: bytes, code: str, fields: list[str]
) -> None:
    play = await actions.issue(new_user(), computed)

    for _ in range(4):
        verified = await actions.verify(play, play.prove(completion_ms=0, evidence=evidence))
        completed = await actions.complete(
            play, play.completion(completion_ms=0, evidence=evidence)
        )
        for failure in (verified.failure, completed.failure):
            assert failure.code == code
            assert [problem.field for problem in failure.errors] == fields
        assert not verified.closes
    mended = await actions.verify(play, play.prove(completion_ms=0, evidence=FORTY))

    assert not mended.HasField("failure")
    assert await actions.state(play) == "requested"


@pytest.mark.parametrize(
    ("stated", "signed", "code", "closes"),
    [
        (None, None, "", False),
        (None, 40, "", False),  # over the computed number, which no one stated
        (40, 40, "", False),
        (40, None, "", False),
        (None, 41, "SIGNATURE_INVALID", False),
        (None, 0, "SIGNATURE_INVALID", False),
        (40, 41, "SIGNATURE_INVALID", False),
        (41, 41, "SCORE_MISMATCH", True),
        (41, 40, "SCORE_MISMATCH", False),
        (41, None, "SCORE_MISMATCH", False),
        (0, 0, "SCORE_OUT_OF_RANGE", False),
        (1001, 1001, "SCORE_OUT_OF_RANGE", False),
    ],
)
async def test_a_stated_amount_is_compared_and_a_signed_one_checked(
    actions: Actions,
    computed: str,
    *,
    stated: int | None,
    signed: int | None,
    code: str,
    closes: bool,
) -> None:
    play = await actions.issue(new_user(), computed)

    result = await actions.verify(
        play, play.prove(completion_ms=0, evidence=FORTY, stated=stated, signed=signed)
    )

    assert (result.failure.code, result.closes) == (code, closes)
    assert result.points == (0 if code else 40)


@pytest.mark.parametrize("stated", [None, 40])
async def test_without_a_proof_nothing_is_computed_and_a_proof_is_required(
    actions: Actions, computed: str, stated: int | None
) -> None:
    play = await actions.issue(new_user(), computed)
    claims = play.prove(completion_ms=0, stated=stated, signed=40)
    claims.ClearField("proof")

    for _ in range(4):
        assert (await actions.verify(play, claims)).failure.code == "PROOF_REQUIRED"
    claims.score_increment = 41  # signed for 40: this signature can be checked, and is wrong
    assert (await actions.verify(play, claims)).failure.code == "SIGNATURE_INVALID"


async def test_evidence_changed_on_its_way_is_a_wrong_checksum(
    actions: Actions, computed: str
) -> None:
    play = await actions.issue(new_user(), computed)
    claims = play.prove(completion_ms=0, evidence=FORTY)
    claims.proof.evidence = b'{"points":41}'

    assert (await actions.verify(play, claims)).failure.code == "SIGNATURE_INVALID"


async def test_another_amount_than_computed_is_reported(
    actions: Actions, computed: str, pool: asyncpg.Pool
) -> None:
    play = await actions.issue(new_user(), computed)

    await actions.verify(play, play.prove(completion_ms=0, evidence=FORTY, stated=90, signed=90))

    (incident,) = await pool.fetch("SELECT rule, observed, threshold FROM actions.incidents")
    assert tuple(incident) == ("amount", 90, 40)


async def test_a_strangers_signature_over_the_computed_number_shows_the_token_is_shared(
    actions: Actions, computed: str, pool: asyncpg.Pool
) -> None:
    play = await actions.issue(new_user(), computed)
    claims = play.prove(completion_ms=0, evidence=FORTY, signed=40)

    foreign = await actions.verify(play, claims, caller=new_user())

    assert foreign.failure.code == "TOKEN_MISMATCH"
    assert await pool.fetchval("SELECT rule FROM actions.incidents") == "foreign"


async def test_a_time_bonus_is_refused_outside_its_times_as_any_play_is(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(
        type_name,
        points=0,
        formula="time_bonus",
        points_min=10,
        points_max=20,
        min_duration_ms=1000,
        max_duration_ms=2000,
        token_ttl_s=60,
        max_open=9,
    )
    plays = {ms: await actions.issue(new_user(), type_name) for ms in (999, 1000, 1500, 2001)}
    with clock.ahead(3):
        results = {
            ms: await actions.verify(play, play.prove(completion_ms=ms))
            for ms, play in plays.items()
        }

    assert [(one.failure.code, one.points) for one in results.values()] == [
        ("SUSPICIOUS_ACTIVITY", 0),
        ("", 20),
        ("", 15),
        ("SUSPICIOUS_ACTIVITY", 0),
    ]


async def test_one_proof_that_gives_no_points_does_not_fail_its_neighbours(
    actions: Actions, computed: str
) -> None:
    plays = [await actions.issue(new_user(), computed) for _ in range(3)]
    evidences = [FORTY, b"no json", FORTY]

    items = [
        pb.VerifyItem(
            attempt_id=uuid7(),
            user_id=play.user_id,
            action_token=play.issued.action_token,
            claims=play.prove(completion_ms=0, evidence=evidence),
        )
        for play, evidence in zip(plays, evidences, strict=True)
    ]
    reply = await actions.scores.Verify(pb.VerifyRequest(items=items))

    assert [one.points for one in reply.results] == [40, 0, 40]


async def test_of_two_proofs_at_once_the_points_are_those_of_the_one_that_counts(
    actions: Actions, computed: str
) -> None:
    play: Play = await actions.issue(new_user(), computed)

    results = await asyncio.gather(
        *(
            actions.complete(play, play.completion(completion_ms=0, evidence=evidence))
            for evidence in (FORTY, b'{"points":99}')
        )
    )
    (done,) = [one.completed for one in results if one.HasField("completed")]
    at = stamp()
    claims = pb.Claims(timestamp=at, client_signature=play.signature(done.score_increment, at))
    result = await actions.verify(play, claims, token=done.action_token)

    assert result.points == done.score_increment
