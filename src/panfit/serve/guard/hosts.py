"""HOSTS: a service that only this machine can reach is not to be asked under another site's name (DNS rebinding).

A page of evil.example may let its name mean 127.0.0.1, and then the browser takes our answers for that site's own. The
name that the browser sends (Host) gives it away.
"""

import socket

from starlette.datastructures import Headers
from starlette.types import Scope

from panfit.serve.guard.clients import Clients, address_of

REMEDY = (
    "this service answers on this machine alone, under the names localhost and 127.0.0.1. Behind a proxy, start it "
    "with --trusted-proxy 127.0.0.1, or set a token"
)


class Hosts:
    """Tells whether a request means this service. To be asked where no token is set: with one, a stranger's page has
    none to show.

    Args:
        clients: knows the trusted proxies, which may call the service what they like.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._own = {"localhost", socket.gethostname().lower()}

    def is_misdirected(self, scope: Scope) -> bool:
        """Whether a browser on this machine asks under a name that is not this machine's."""
        server, client = scope.get("server"), scope.get("client")
        ours, theirs = (address_of(str(each[0])) if each else None for each in (server, client))
        if ours is None or theirs is None or not (ours.is_loopback and theirs.is_loopback):
            return False
        if self._clients.is_trusted(theirs):
            return False
        host = Headers(scope=scope).get("host", "").lower()
        name = host if host.startswith("[") else host.partition(":")[0]
        address = address_of(name)
        is_own = name in self._own or name.endswith(".localhost") or (address is not None and address.is_loopback)
        return bool(host) and not is_own  # HTTP/1.0 may name none; no browser speaks it
