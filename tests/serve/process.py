"""`panfit serve` in a process of its own, as a person starts it, and plain requests to it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SECONDS = 120.0
"""Nothing here takes so long, however busy the machine is; a test fails after it instead of hanging."""
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Serving:
    """A running service.

    Attributes:
        url: as it told on stdout, with a slash at the end.
        token: sent with every request, if any.
    """

    process: "subprocess.Popen[str]"
    url: str
    token: str | None = None
    told: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """(status, JSON or text) of one request on a connection of its own."""
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=SECONDS)
        sent = {"Content-Type": "application/json"} | headers
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        return answer.status, json.loads(text) if "json" in (answer.headers["Content-Type"] or "") else text

    def end(self, sig: signal.Signals) -> int:
        """Send a signal and wait: the exit status, negative if it was killed."""
        self.process.send_signal(sig)
        return self.process.wait(SECONDS)


@contextmanager
def serving(
    *arguments: str | Path,
    environ: Mapping[str, str] | None = None,
    token: str | None = None,
    command: tuple[str, ...] = (sys.executable, "-m", "panfit", "serve"),
) -> Iterator[Serving]:
    """A service that can answer. It is killed in the end, if it still runs."""
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        env={name: value for name, value in os.environ.items() if not name.startswith("PANFIT_")}
        | {"OMP_NUM_THREADS": "1"}
        | dict(environ or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    told: list[str] = []
    listener = threading.Thread(target=told.extend, args=(process.stderr,), daemon=True)
    listener.start()
    alarm = threading.Timer(SECONDS, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
        alarm.cancel()
        if not line.startswith("The page: "):
            process.kill()
            listener.join(SECONDS)
            raise AssertionError(f"it did not become ready; it said {line!r} and\n{''.join(told)}")
        yield Serving(process, line.removeprefix("The page: ").strip(), token, told)
    finally:
        alarm.cancel()
        process.kill()
        process.wait(SECONDS)
        listener.join(SECONDS)
        process.stdout.close()
        process.stderr.close()
