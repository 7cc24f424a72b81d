"""Tests of forged tokens: each is refused as none of ours, and causes no I/O at all."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from chassis import clock
from chassis.batching import BATCH_MAX
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, decode, new_user
from services.actions.tests.serving import Actions
from services.actions.tokens import encode

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


async def codes(actions: Actions, play: Play, tokens: Sequence[str]) -> list[str]:
    """What a claim that is right but for its token is refused with, for each token."""
    found = []
    for start in range(0, len(tokens), BATCH_MAX):
        items = [
            pb.VerifyItem(user_id=play.user_id, action_token=token, claims=play.update())
            for token in tokens[start : start + BATCH_MAX]
        ]
        reply = await actions.scores.Verify(pb.VerifyRequest(items=items))
        assert not any(result.HasField("sealed") or result.points for result in reply.results)
        found += [result.failure.code for result in reply.results]
    return found


def flipped_text(token: str) -> Iterator[str]:
    """The token with each bit of each character turned over."""
    for place, character in enumerate(token):
        for bit in range(8):
            yield token[:place] + chr(ord(character) ^ 1 << bit) + token[place + 1 :]


def flipped_content(token: str) -> Iterator[str]:
    """The token with each bit of what it encodes turned over."""
    raw = decode(token.removeprefix("v1."))
    for place in range(len(raw)):
        for bit in range(8):
            changed = raw[place] ^ 1 << bit
            yield "v1." + encode(raw[:place] + bytes([changed]) + raw[place + 1 :])


def truncated(token: str) -> Iterator[str]:
    for length in range(len(token)):
        yield token[:length]
        yield token[length + 1 :]
    raw = decode(token.removeprefix("v1."))
    for length in range(len(raw)):
        yield "v1." + encode(raw[:length])


def extended(token: str) -> Iterator[str]:
    raw = decode(token.removeprefix("v1."))
    for more in ("A", "AA", "AAA", "AAAA", "=", "==", " ", "\n", "\0", ".", "v1.", token):
        yield token + more
        yield more + token
    for more_bytes in (b"\0", b"\xff", bytes(16), raw):
        yield "v1." + encode(raw + more_bytes)
        yield "v1." + encode(more_bytes + raw)
    yield token + "A" * 100_000


def written_otherwise(token: str) -> Iterator[str]:
    """The same bytes in other ways of writing them, and other versions."""
    body = token.removeprefix("v1.")
    raw = decode(body)
    padding = "=" * (-len(body) % 4)
    yield "v1." + body + padding
    yield "v1." + base64.b64encode(raw).decode()
    yield "v1." + base64.b64encode(raw).decode().rstrip("=")
    yield "v1." + base64.b32encode(raw).decode()
    yield "v1." + raw.hex()
    yield from (f"v1.{body[:40]}{foreign}{body[40:]}" for foreign in "\n \t.=*~é\x00")
    yield from (prefix + body for prefix in ("", "v1", "V1.", "v2.", "v01.", "v1.v1.", " v1."))
    yield token.upper()
    yield token.lower()
    yield token[::-1]
    # The last character's spare bits: decoders ignore them, so that these decode alike.
    spare = {0: 0, 1: 2, 2: 4}[len(raw) % 3]
    last = ALPHABET.index(body[-1])
    yield from ("v1." + body[:-1] + ALPHABET[last ^ n] for n in range(1, 1 << spare))


@pytest.mark.parametrize("forge", [
    flipped_text, flipped_content, truncated, extended, written_otherwise,
])  # fmt: skip
@pytest.mark.parametrize("completed", [False, True])
async def test_a_forged_token_is_refused_without_any_io(
    watched: tuple[Actions, list[str]], forge: Any, completed: bool
) -> None:
    actions, queries = watched
    play = await actions.issue(new_user())
    token = play.issued.action_token
    with clock.ahead(6):
        if completed:
            done = await actions.complete(play, play.completion())
            token = done.completed.action_token
        forged = [one for one in forge(token) if one != token]
        queries.clear()

        assert set(await codes(actions, play, forged)) == {"TOKEN_INVALID"}
        assert queries == []

        # The count does count, and the token itself is a right one.
        result = await actions.verify(play, play.update(), token=token)
    assert not result.HasField("failure")
    assert queries
    least = {"flipped_text": 1200, "flipped_content": 800, "truncated": 400}
    assert len(forged) >= least.get(forge.__name__, 20)


async def test_two_tokens_joined_at_any_place_are_none(
    watched: tuple[Actions, list[str]],
) -> None:
    actions, queries = watched
    user = new_user()
    one, other = [(await actions.issue(user)).issued.action_token for _ in range(2)]
    play = await actions.issue(user)
    queries.clear()
    joined = [one[:place] + other[place:] for place in range(len(one))]
    forged = [token for token in joined if token not in (one, other)]

    assert set(await codes(actions, play, forged)) == {"TOKEN_INVALID"}
    assert queries == []


async def test_nothing_of_a_forgery_is_counted_against_the_action(
    watched: tuple[Actions, list[str]], pool: asyncpg.Pool
) -> None:
    actions, _ = watched
    play = await actions.issue(new_user())
    with clock.ahead(6):
        await codes(actions, play, list(flipped_content(play.issued.action_token))[:300])
        result = await actions.verify(play, play.update())

    assert not result.HasField("failure")
    assert await actions.state(play) == "requested"
    assert await pool.fetchval(
        "SELECT wrong_signatures FROM actions.actions WHERE action_id = $1",
        play.issued.action_id,
    ) == 0  # fmt: skip
