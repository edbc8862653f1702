"""START: what a person or an environment says -> what to serve, checked before anything is loaded.

Secrets come from files or the environment, never from arguments, which every user of a machine can read.
"""

import ipaddress
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from panfit.errors import ConfigError, DataError
from panfit.serve.settings import Limits, ServeConfig

SHORTEST_TOKEN = 16
"""Characters; `openssl rand -hex 32` makes 64."""
DATABASE = "likes.db"
"""The default database's file, in RUN."""
BACKLOG = 512
"""Connections that the system holds for us while we are busy."""


@dataclass(frozen=True)
class Start:
    """All that a process needs to serve; it can be sent to a worker.

    Attributes:
        run: a RUN folder of PAN.
        config: the service's settings.
        data, allow_changed, trunk_weights: `panfit.load`'s.
        codes: where code tables are kept, if not in RUN.
    """

    run: Path
    config: ServeConfig
    data: Path | None = None
    allow_changed: bool = False
    trunk_weights: Path | None = None
    codes: Path | None = None


def make_config(
    run: Path,
    *,
    database: str | None = None,
    password_file: Path | None = None,
    token: str | None = None,
    token_file: Path | None = None,
    limits_file: Path | None = None,
    trusted_proxies: tuple[str, ...] = (),
    secure_cookies: bool = False,
) -> ServeConfig:
    """A service's settings.

    Args:
        run: where the default database lies.
        database: its URL; None: an SQLite file in ``run``.
        password_file: whose text is the password of the database's URL.
        token: from the environment.
        token_file: whose text is the token.
        limits_file: TOML, with names of `Limits`.
        trusted_proxies, secure_cookies: ServeConfig's.

    Raises:
        ConfigError: a secret that is too short or given twice, an unknown limit, a proxy that is no address.
        OSError: a file that cannot be read.
    """
    for proxy in trusted_proxies:
        _check_address(proxy)
    url = database or f"sqlite:///{run / DATABASE}"
    return ServeConfig(
        database=url if password_file is None else _with_password(url, _read_secret(password_file)),
        token=read_token(token, token_file),
        limits=Limits() if limits_file is None else read_limits(limits_file),
        trusted_proxies=trusted_proxies,
        secure_cookies=secure_cookies,
    )


def read_token(token: str | None, file: Path | None) -> SecretStr | None:
    """The token of the environment or of a file; None where there is neither. Raises ConfigError."""
    if token is not None and file is not None:
        raise ConfigError("the token is given twice, by PANFIT_TOKEN and by a file; leave one of them")
    if file is not None:
        token = _read_secret(file)
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        found = f"{len(token)} characters" if len(token) < SHORTEST_TOKEN else "other characters"
        raise ConfigError(
            f"the token cannot be used: found {found}; wanted at least {SHORTEST_TOKEN} ASCII letters, digits or "
            "signs, without spaces. Make one: openssl rand -hex 32"
        )
    return SecretStr(token)


def read_limits(file: Path) -> Limits:
    """A TOML file's limits; those that it does not name stay as they are. Raises ConfigError, OSError."""
    try:
        return Limits.model_validate(tomllib.loads(file.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ConfigError(
            f"{file}: {'; '.join(wrong)}. The limits are {', '.join(sorted(Limits.model_fields))}"
        ) from None


def listen(host: str, port: int, *, has_token: bool, without_token: bool = False) -> socket.socket:
    """A bound socket, which does not accept yet. Port 0: a free one.

    Args:
        host: an address or a name of this machine.
        port: 0 to 65535.
        has_token: whoever asks must send a token.
        without_token: be reachable from other machines all the same.

    Raises:
        ConfigError: the port is taken or reserved, the host is none of this machine's, or anybody could ask.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {host}: found no such address; wanted one of this machine's") from None
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)  # of localhost's two, IPv4
    if not (has_token or without_token or ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback):
        raise ConfigError(
            f"--host {host} can be reached from other machines, and no token is set, so anybody could ask. Set one "
            "(--token-file FILE, or PANFIT_TOKEN), or say --insecure-no-token where something in front keeps others out"
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] != "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # now, for two that do not listen yet may share a port
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Name another port, or 0 for a free one"
        ) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds a socket."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # every address; this machine's own is one of them
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def check_folder(run: Path) -> None:
    """Raise DataError where RUN cannot be one, before the port is taken and torch is loaded."""
    if not run.is_dir():
        raise DataError(f"{run}: there is no such run folder. Name one that `panfit train` wrote, or run `panfit demo`")
    if not any((folder / "config.json").exists() for folder in (run, run / "best")):
        raise DataError(f"{run}: no best checkpoint here; it is written after the first validation of a training")


def _read_secret(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file; wanted a secret alone") from None


def _with_password(url: str, password: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).set(password=password).render_as_string(hide_password=False)
    except (ArgumentError, ValueError):
        raise ConfigError("the database's URL cannot be read. Write postgresql+psycopg://USER@HOST/NAME") from None


def _check_address(proxy: str) -> None:
    try:
        ipaddress.ip_network(proxy, strict=False)
    except ValueError:
        raise ConfigError(f"--trusted-proxy {proxy}: found no address; wanted one as 10.0.0.2") from None
