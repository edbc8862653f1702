"""Workers that load no model, and so start at once; each answers with its process id. ``python -m`` runs a parent."""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from panfit.errors import PanfitError
from panfit.serve.workers import MISTAKE, Workers


def serve(mark: Path, listener: socket.socket, telling: Connection) -> None:
    """Answers until SIGTERM. Where ``mark`` says "mistake" or "crash", it does not even start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = mark.read_text("utf-8")
    if said == "mistake":
        sys.exit(MISTAKE)
    if said == "crash":
        mark.write_text("", "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    listener.settimeout(0.05)
    telling.send_bytes(b"serving")
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = listener.accept()
            with client:
                client.sendall(str(os.getpid()).encode())


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as shared:
        sys.stdout.write(f"{shared.getsockname()[1]}\n")
        sys.stdout.flush()
        try:
            came = Workers(functools.partial(serve, Path(sys.argv[1])), shared, int(sys.argv[2])).run()
        except PanfitError as error:
            sys.exit(f"error: {error}")
        sys.stdout.write(f"{signal.Signals(came).name}\n")
