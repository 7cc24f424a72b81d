"""What Judge returns: bursts, bans, refused attempts, and verdicts that stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import msgspec
import pytest

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import Certificates, eventually
from protos.fraud_pb2 import JudgeItem, JudgeRequest, Sanction, Verdict
from services.fraud import rules
from services.fraud.rules import Fact, Reason
from services.fraud.tests.fraud_served import Fraud, attempt, decisions, open_fraud

DAY_S = 24 * 3600


async def test_eight_actions_in_ten_seconds_are_allowed_and_the_ninth_is_flagged(
    fraud: Fraud, user: str
) -> None:
    verdicts = await fraud.play(user, 9)

    assert decisions(verdicts) == ["ALLOW"] * 8 + ["FLAG"]
    flag = verdicts[-1]
    assert flag.decision_id
    assert flag.ruleset == rules.RULESET
    assert flag.sanction.kind == Sanction.FLAGGED
    assert flag.sanction.until_ms == pytest.approx(clock.now_ms() + DAY_S * 1000, abs=5000)
    (reason,) = flag.reasons
    assert (reason.rule, reason.severity, reason.version) == ("burst", "flag", 1)
    assert (reason.observed, reason.threshold, reason.window_ms) == (9, 8, 10_000)
    assert len(set(reason.evidence)) == 9


async def test_an_action_leaves_the_window_after_ten_seconds(fraud: Fraud, user: str) -> None:
    await fraud.play(user, 8)

    with clock.ahead(10):
        later = await fraud.play(user, 8)

    assert decisions(later) == ["ALLOW"] * 8


async def test_an_action_counts_until_just_before_ten_seconds(fraud: Fraud, user: str) -> None:
    await fraud.judge(*(attempt(user) for _ in range(8)))

    with clock.ahead(9):
        (later,) = await fraud.judge(attempt(user))

    assert later.decision == Verdict.FLAG


async def test_the_same_action_judged_again_counts_once_and_keeps_its_verdict(
    fraud: Fraud, user: str
) -> None:
    action = uuid7()
    again = [(await fraud.judge(attempt(user, action)))[0] for _ in range(20)]
    assert decisions(again) == ["ALLOW"] * 20

    others = await fraud.play(user, 8)
    assert decisions(others) == ["ALLOW"] * 7 + ["FLAG"]


@pytest.mark.parametrize(("later_s", "decision"), [(590, Verdict.ALLOW), (610, Verdict.FLAG)])
async def test_that_an_action_was_allowed_is_kept_for_ten_minutes(
    fraud: Fraud, user: str, later_s: int, decision: Verdict.Decision
) -> None:
    action = uuid7()
    await fraud.judge(attempt(user, action))

    with clock.ahead(later_s):
        await fraud.play(user, 8)
        (again,) = await fraud.judge(attempt(user, action))

    assert again.decision == decision


async def test_a_flagged_action_keeps_its_verdict_with_the_sanction_of_the_moment(
    fraud: Fraud, user: str
) -> None:
    items = [attempt(user) for _ in range(9)]
    first = (await fraud.judge(*items))[-1]

    (again,) = await fraud.judge(attempt(user, items[-1].verified.sealed.action_id))
    assert again == first

    with clock.ahead(300):
        (later,) = await fraud.judge(attempt(user, items[-1].verified.sealed.action_id))
    assert later == first

    with clock.ahead(DAY_S + 1):
        (expired,) = await fraud.judge(attempt(user, items[-1].verified.sealed.action_id))
    assert expired.sanction.kind == Sanction.NONE


async def test_a_flag_outlives_the_loss_of_the_windows(
    fraud: Fraud, user: str, redis: Redis
) -> None:
    items = [attempt(user) for _ in range(9)]
    first = (await fraud.judge(*items))[-1]

    await redis.flushall()

    for _ in range(2):
        (again,) = await fraud.judge(attempt(user, items[-1].verified.sealed.action_id))
        assert again == first


async def test_an_allowed_action_stays_allowed_when_its_player_is_flagged_since(
    fraud: Fraud, user: str
) -> None:
    items = [attempt(user) for _ in range(9)]
    await fraud.judge(*items)

    (again,) = await fraud.judge(attempt(user, items[0].verified.sealed.action_id))

    assert again.decision == Verdict.ALLOW
    assert again.sanction.kind == Sanction.FLAGGED


async def test_actions_of_one_player_in_one_batch_count_in_their_order(
    fraud: Fraud, user: str
) -> None:
    other = uuid7()
    mine = [attempt(user) for _ in range(10)]
    batch = [item for own in mine for item in (own, attempt(other) if own in mine[:8] else own)]

    verdicts = await fraud.judge(*batch)

    by_attempt = dict(zip((item.attempt_id for item in batch), decisions(verdicts), strict=True))
    assert [by_attempt.pop(item.attempt_id) for item in mine] == ["ALLOW"] * 8 + ["FLAG"] * 2
    assert set(by_attempt.values()) == {"ALLOW"}


async def test_an_action_twice_in_one_batch_has_one_verdict(fraud: Fraud, user: str) -> None:
    action = uuid7()
    await fraud.play(user, 8)

    first, second = await fraud.judge(attempt(user, action), attempt(user, action))

    assert first.decision == Verdict.FLAG
    assert second == first


async def test_refused_attempts_count_by_their_action(fraud: Fraud, user: str) -> None:
    action = uuid7()
    for _ in range(12):
        await fraud.judge(attempt(user, action, refusal="SIGNATURE_INVALID"))
    refused = await fraud.judge(*(attempt(user, refusal="TOKEN_EXPIRED") for _ in range(7)))
    assert decisions(refused) == ["ALLOW"] * 7

    (accepted,) = await fraud.judge(attempt(user))

    assert accepted.decision == Verdict.FLAG


async def test_a_refused_action_that_is_tried_for_long_stays_one_in_the_window(
    fraud: Fraud, user: str
) -> None:
    action = uuid7()
    others = await fraud.play(user, 7)
    for ahead_s in (0, 4, 8):
        with clock.ahead(ahead_s):
            again = [attempt(user, action, refusal="TOKEN_EXPIRED") for _ in range(80)]
            assert set(decisions(await fraud.judge(*again))) == {"ALLOW"}

    with clock.ahead(9):
        (ninth,) = await fraud.judge(attempt(user))
    assert decisions([*others, ninth]) == ["ALLOW"] * 7 + ["FLAG"]
    # By then only the last time of it is left.
    with clock.ahead(17):
        assert decisions(await fraud.play(user, 7)) == ["ALLOW"] * 6 + ["FLAG"]


async def test_a_burst_names_the_newest_actions(fraud: Fraud, user: str) -> None:
    await fraud.play(user, 140)

    last = (await fraud.play(user, 1))[0]
    (reason,) = last.reasons
    assert (reason.observed, len(set(reason.evidence))) == (64, 64)


async def test_a_refused_attempt_fixes_nothing_for_its_action(fraud: Fraud, user: str) -> None:
    action = uuid7()
    (refused,) = await fraud.judge(attempt(user, action, refusal="SUSPICIOUS_ACTIVITY"))
    assert refused.decision == Verdict.REJECT
    (accepted,) = await fraud.judge(attempt(user, action))
    assert accepted.decision == Verdict.ALLOW

    other = uuid7()
    await fraud.judge(attempt(user, other, refusal="SIGNATURE_INVALID"))
    with clock.ahead(11):
        await fraud.play(user, 8)
        (counted,) = await fraud.judge(attempt(user, other))
    assert counted.decision == Verdict.FLAG


@pytest.mark.parametrize(
    ("elapsed_ms", "claimed_ms", "bound"),
    [
        (999, 999, (999, 1000)),
        (999, None, (999, 1000)),
        (5000, 800, (800, 1000)),
        (9000, 2001, (2001, 2000)),
        (1200, 1451, (1451, 1450)),
    ],
)
async def test_times_out_of_bounds_are_rejected_and_the_bound_is_returned(
    fraud: Fraud,
    user: str,
    elapsed_ms: int,
    claimed_ms: int | None,
    bound: tuple[int, int],
) -> None:
    item = attempt(user, refusal="SUSPICIOUS_ACTIVITY")
    item.verified.elapsed_ms = elapsed_ms
    item.verified.min_duration_ms, item.verified.max_duration_ms = 1000, 2000
    if claimed_ms is not None:
        item.verified.claimed_ms = claimed_ms

    (verdict,) = await fraud.judge(item)

    assert verdict.decision == Verdict.REJECT
    assert verdict.decision_id
    (reason,) = verdict.reasons
    assert (reason.rule, reason.severity) == ("time", "reject")
    assert (reason.observed, reason.threshold) == bound
    assert list(reason.evidence) == [item.attempt_id]


async def test_every_recorded_reason_follows_again_from_its_facts(fraud: Fraud, user: str) -> None:
    await fraud.judge(attempt(user, refusal="SUSPICIOUS_ACTIVITY"))
    await _ban(fraud, user)
    await fraud.judge(attempt(user))

    rows = await fraud.pool.fetch(
        "SELECT facts, reasons FROM fraud.verdicts WHERE user_id = $1", user
    )

    seen = set()
    for row in rows:
        facts = msgspec.json.decode(row["facts"], type=list[Fact])
        reasons = msgspec.json.decode(row["reasons"], type=list[Reason])
        assert [rules.reason(fact) for fact in facts] == reasons
        seen |= {reason.rule for reason in reasons}
    assert seen == {"time", "burst", "repeat", "ban"}


async def test_the_third_burst_within_a_day_bans_and_opens_a_case(fraud: Fraud, user: str) -> None:
    third = await _ban(fraud, user)

    assert third.decision == Verdict.BAN
    assert third.sanction.kind == Sanction.BANNED
    burst, repeat = third.reasons
    assert (burst.rule, repeat.rule, repeat.severity) == ("burst", "repeat", "ban")
    assert (repeat.observed, repeat.threshold, repeat.window_ms) == (3, 2, DAY_S * 1000)
    assert repeat.evidence[-1] == third.decision_id
    (case,) = await fraud.cases(user)
    assert case["source_id"] == third.decision_id


async def test_bursts_less_than_a_minute_apart_count_once(fraud: Fraud, user: str) -> None:
    verdicts = []
    for at_s in (0, 50, 100, 150):  # of the four, those at 0 and 100 count
        with clock.ahead(at_s):
            verdicts.append(await fraud.burst(user))

    assert decisions(verdicts) == ["FLAG"] * 4
    assert verdicts[0].sanction.version == verdicts[1].sanction.version
    assert verdicts[1].sanction.version < verdicts[2].sanction.version


async def test_a_burst_of_the_day_before_counts_no_more(fraud: Fraud, user: str) -> None:
    verdicts = []
    for at_s in (0, 100, DAY_S + 1):
        with clock.ahead(at_s):
            verdicts.append(await fraud.burst(user))

    assert decisions(verdicts) == ["FLAG"] * 3


async def test_every_accepted_action_of_a_banned_player_is_a_ban_until_the_ban_ends(
    fraud: Fraud, user: str
) -> None:
    third = await _ban(fraud, user)
    with clock.ahead(200):
        (banned,) = await fraud.judge(attempt(user))
    assert banned.decision == Verdict.BAN
    assert banned.decision_id
    assert banned.sanction == third.sanction
    assert [reason.rule for reason in banned.reasons] == ["ban"]

    with clock.ahead(200 + DAY_S):
        (free,) = await fraud.judge(attempt(user))
    assert free.decision == Verdict.ALLOW
    assert free.sanction.kind == Sanction.NONE


async def test_an_action_banned_just_before_the_ban_ends_stays_banned_after_it(
    fraud: Fraud, user: str
) -> None:
    await _ban(fraud, user)
    item = attempt(user)
    with clock.ahead(DAY_S + 100):
        (banned,) = await fraud.judge(item)
    assert banned.decision == Verdict.BAN

    with clock.ahead(DAY_S + 200):
        (again,) = await fraud.judge(attempt(user, item.verified.sealed.action_id))

    assert (again.decision, again.decision_id) == (Verdict.BAN, banned.decision_id)
    assert again.sanction.kind == Sanction.NONE


async def test_an_action_allowed_before_the_ban_says_so_beside_the_ban(
    fraud: Fraud, user: str
) -> None:
    items = [attempt(user) for _ in range(9)]
    await _ban(fraud, user, last=items)

    with clock.ahead(200):
        (again,) = await fraud.judge(attempt(user, items[0].verified.sealed.action_id))

    assert again.decision == Verdict.ALLOW
    assert again.sanction.kind == Sanction.BANNED


async def test_a_ban_by_one_replica_binds_the_other(
    fraud: Fraud, user: str, pool: asyncpg.Pool, redis: Redis, certificates: Certificates
) -> None:
    async with (
        open_fraud(pool, redis, certificates) as other,
        background(other.sanctions.follow()),
    ):
        await _ban(fraud, user)
        await eventually(partial(_known, other, user), timeout_s=1)
        (banned,) = await other.judge(attempt(user))
    assert banned.decision == Verdict.BAN


async def test_bursts_seen_by_two_replicas_at_once_are_one_flag_a_player(
    fraud: Fraud, pool: asyncpg.Pool, redis: Redis, certificates: Certificates
) -> None:
    users = [uuid7() for _ in range(8)]
    await asyncio.gather(*(fraud.judge(*(attempt(user) for _ in range(8))) for user in users))
    async with open_fraud(pool, redis, certificates) as other:
        ninths = [
            replica.judge(attempt(user))
            for _ in range(4)
            for user in users
            for replica in (fraud, other)
        ]
        verdicts = await asyncio.gather(*ninths)

    assert {verdict.decision for (verdict,) in verdicts} == {Verdict.FLAG}
    assert len({verdict.sanction.version for (verdict,) in verdicts}) == len(users)
    strikes = await pool.fetchval(
        "SELECT count(*) FROM fraud.verdicts WHERE user_id = ANY($1::uuid[]) AND strike", users
    )
    assert strikes == len(users)


async def test_with_limits_off_the_windows_are_counted_and_nothing_follows(
    user: str, pool: asyncpg.Pool, redis: Redis, certificates: Certificates
) -> None:
    async with open_fraud(pool, redis, certificates, limited=False) as unlimited:
        verdicts = await unlimited.play(user, 30)

    assert decisions(verdicts) == ["ALLOW"] * 30
    (window,) = [key async for key in redis.scan_iter(match=f"*:judged:{user}")]
    # Each is there as long as it could matter, in a string that does not grow forever.
    assert 8 * 44 <= await redis.strlen(window) <= 16 * 44


async def test_without_postgres_a_burst_is_flagged_and_recorded_when_it_comes_again(
    user: str, database: dict[str, str], redis: Redis, certificates: Certificates
) -> None:
    closed = await asyncpg.create_pool(database["fraud"], min_size=1)
    async with open_fraud(closed, redis, certificates) as cut_off:
        await closed.close()
        items = [attempt(user) for _ in range(9)]
        verdict = (await cut_off.judge(*items))[-1]
    assert (verdict.decision, verdict.decision_id) == (Verdict.FLAG, "")
    assert verdict.reasons[0].rule == "burst"

    pool = await asyncpg.create_pool(database["fraud"], min_size=1)
    async with pool, open_fraud(pool, redis, certificates) as back:
        (again,) = await back.judge(attempt(user, items[-1].verified.sealed.action_id))
    assert again.decision_id
    assert again.reasons == verdict.reasons
    assert again.sanction.kind == Sanction.FLAGGED


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
async def test_while_redis_is_unavailable_sanctions_are_returned_and_no_verdict_is_new(
    fraud: Fraud, user: str, pool: asyncpg.Pool, certificates: Certificates, silent: bool
) -> None:
    known = uuid7()
    flag = await fraud.burst(known)
    granted = attempt(known)
    granted.granted = True
    items = [*(attempt(user) for _ in range(20)), attempt(known), granted]
    async with (
        _no_redis(silent=silent) as unavailable,
        open_fraud(pool, unavailable, certificates) as blind,
    ):
        # Within the deadline of scores.
        reply = await blind.stub.Judge(JudgeRequest(items=items), timeout=0.5)

    assert sorted(reply.verdicts) == [20, 21]
    assert decisions(list(reply.verdicts.values())) == ["ALLOW"] * 2
    assert flag.sanction.kind == Sanction.FLAGGED
    assert [verdict.sanction for verdict in reply.verdicts.values()] == [flag.sanction] * 2


@asynccontextmanager
async def _no_redis(*, silent: bool) -> AsyncIterator[Redis]:
    """A Redis that refuses connections, or one that never replies."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    if not silent:
        listener.close()
    async with Redis(f"redis://127.0.0.1:{port}") as unavailable:
        yield unavailable
    listener.close()


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([attempt(uuid7()) for _ in range(257)], "BATCH_TOO_LARGE"),
        ([attempt("a}:*")], "ID_INVALID"),
    ],
)
async def test_what_cannot_be_right_is_refused(
    fraud: Fraud, items: list[JudgeItem], code: str
) -> None:
    with pytest.raises(Failed) as caught:
        await fraud.stub.Judge(JudgeRequest(items=items))
    assert caught.value.code == code


async def test_an_allowed_attempt_takes_no_room_in_the_reply(fraud: Fraud, user: str) -> None:
    attempts = [attempt(uuid7()), *(attempt(user) for _ in range(9)), attempt(uuid7())]

    reply = await fraud.stub.Judge(JudgeRequest(items=attempts))

    assert list(reply.verdicts) == [9]
    assert reply.verdicts[9].decision == Verdict.FLAG


async def test_an_empty_batch_has_an_empty_reply(fraud: Fraud) -> None:
    assert await fraud.judge() == []


async def _known(fraud: Fraud, user: str) -> bool:
    return fraud.sanctions.of(user) is not None


async def _ban(fraud: Fraud, user: str, *, last: list[JudgeItem] | None = None) -> Verdict:
    """Three bursts, each a minute and more after the one before; returns the last verdict."""
    for at_s in (0, 70):
        with clock.ahead(at_s):
            await fraud.burst(user)
    with clock.ahead(140):
        return (await fraud.judge(*(last or [attempt(user) for _ in range(9)])))[-1]


async def test_a_grant_returns_the_players_sanction_and_nothing_else(
    fraud: Fraud, user: str
) -> None:
    many = await fraud.judge(*(_granted(user) for _ in range(20)))
    played = await fraud.play(user, 9)
    granted, judged = await fraud.judge(_granted(user), attempt(user))

    # None of the grants counted for the burst, and none has a verdict of its own.
    assert set(decisions(many)) == {"ALLOW"}
    assert decisions(played) == ["ALLOW"] * 8 + ["FLAG"]
    assert (granted.decision, granted.decision_id) == (Verdict.ALLOW, "")
    assert granted.sanction == played[-1].sanction
    assert judged.decision == Verdict.FLAG


def _granted(user: str) -> JudgeItem:
    item = attempt(user)
    item.granted = True
    return item
