"""Ids and random bytes, drawn many at a time."""

from chassis.ids import random_bytes


def test_random_bytes_are_as_many_as_requested_and_never_come_twice() -> None:
    # More than are drawn at once, in pieces that do not divide what is drawn.
    drawn = [random_bytes(28) for _ in range(1000)]

    assert {len(piece) for piece in drawn} == {28}
    assert len(set(drawn)) == 1000
    assert len({piece[:14] for piece in drawn} | {piece[14:] for piece in drawn}) == 2000
