"""CLIENTS: on whose account a request goes. A trusted proxy alone is believed when it says for whom it asks."""

import functools
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

IPV6_PREFIX = 64
"""A household has as many IPv6 addresses as it likes, all in one network of this size."""
MAX_HOPS = 16
"""Entries of X-Forwarded-For that are looked at, from the right."""
UNKNOWN = "unknown"
"""Whoever has no address: all of them together."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Clients:
    """Tells clients apart.

    Args:
        trusted_proxies: addresses, or networks as 10.0.0.0/8, whose X-Forwarded-For is believed.

    Raises:
        ValueError: one of them is neither.
    """

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted: tuple[Network, ...] = tuple(ipaddress.ip_network(each, strict=False) for each in trusted_proxies)

    def client_of(self, scope: Scope) -> str:
        """The peer; or, where it is a trusted proxy, the right-most address it names that is none.

        What stands further to the left, the client wrote himself. An IPv6 client is his /64 network.
        """
        peer = scope.get("client")
        address = address_of(peer[0]) if peer else None
        if address is None:
            return UNKNOWN
        if self.is_trusted(address):
            named = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
            for entry in named[: -MAX_HOPS - 1 : -1]:
                found = address_of(entry)
                if found is None:  # not an address: as far as we can tell, the last proxy asks for itself
                    break
                address = found
                if not self.is_trusted(address):
                    break
        return _account_of(address)

    def is_trusted(self, address: Address) -> bool:
        """Whether it is a trusted proxy's."""
        return any(address in network for network in self._trusted)


@functools.lru_cache(maxsize=4096)
def address_of(text: str) -> Address | None:
    """An address as peers and headers give it, perhaps in brackets or with a port; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # without the interface of a link-local one
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _account_of(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
