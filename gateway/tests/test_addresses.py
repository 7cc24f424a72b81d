"""Whose address counts, independent of what X-Forwarded-For claims."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from chassis.settings import SettingsError, load
from gateway.edge.addresses import Proxies, prefix
from gateway.settings import Settings

PROXIES = "127.0.0.0/8, 10.0.0.0/8, ::1/128, fd00::/8"


def request(peer: str | None, *forwarded: str) -> web.BaseRequest:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    return cast(web.BaseRequest, SimpleNamespace(remote=peer, headers=headers))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a proxy of ours
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # a forged left entry
        ("127.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ("127.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),  # a header twice
        ("127.0.0.1", ["198.51.100.1", "10.0.0.3, 10.0.0.4"], "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.3"], "127.0.0.1"),
        ("127.0.0.1", ["1.1.1.1, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["1.1.1.1, "], "127.0.0.1"),
        ("127.0.0.1", ["nonsense, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("127.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("127.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::1", ["fd00::7"], "::1"),
        ("127.0.0.1", ["198.51.100.1\r\nX: y"], "127.0.0.1"),
        ("127.0.0.1", ["{l:00}"], "127.0.0.1"),
        (None, ["198.51.100.1"], ""),
    ],
)
def test_the_right_most_address_that_is_no_trusted_proxy_s(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert Proxies(PROXIES).address(request(peer, *forwarded)) == address


def test_no_proxy_is_trusted_unless_configured() -> None:
    assert Proxies("").address(request("127.0.0.1", "198.51.100.1")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("198.51.100.1", "198.51.100.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_limits_count_ipv4_by_address_and_ipv6_by_64(one: str, other: str, same: bool) -> None:
    assert (prefix(one) == prefix(other)) is same
    assert prefix(one).isalnum()


def test_a_network_that_is_none_is_a_problem_of_the_settings() -> None:
    environment: dict[str, Any] = {"SCOREBOARD_TRUSTED_PROXIES": "10.0.0.0/8,nonsense"}
    with pytest.raises(SettingsError, match="SCOREBOARD_TRUSTED_PROXIES"):
        load(Settings, environment)
