"""Whose request it is: the caller's address, from the connection and X-Forwarded-For."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

Address = IPv4Address | IPv6Address


class Proxies:
    """The proxies whose X-Forwarded-For is believed, from CIDRs separated by commas.

    Raises ValueError for what is no CIDR.
    """

    def __init__(self, text: str) -> None:
        self._networks = tuple(
            ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()
        )
        # Parsing addresses costs more than all the rest of reading a request.
        self._address = lru_cache(maxsize=8192)(self._read)

    def __str__(self) -> str:
        return ",".join(map(str, self._networks))

    def address(self, request: web.BaseRequest) -> str:
        """The caller's address: the right-most forwarded one that is no trusted proxy's.

        The peer's own where the peer is not trusted, or no such entry is there.
        """
        # A proxy may add a second header of the name instead of lengthening the first.
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return self._address(request.remote or "", forwarded)

    def _read(self, peer: str, forwarded: str) -> str:
        found = _parse(peer)
        if found is None:
            return ""
        if self._trusts(found):
            for entry in reversed(forwarded.split(",")):
                address = _parse(entry.strip())
                if address is None:
                    break
                if not self._trusts(address):
                    found = address
                    break
        return str(found)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=8192)
def prefix(address: str) -> str:
    """What limits count an address by: an IPv4 address itself, an IPv6 address's /64.

    Only hexadecimal digits, so that it can stand in a key.
    """
    parsed = _parse(address)
    if parsed is None:
        return "none"
    return parsed.packed[:8].hex() if parsed.version == 6 else parsed.packed.hex()


def _parse(text: str) -> Address | None:
    # Some proxies write the port too, and brackets around an IPv6 address with one.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
