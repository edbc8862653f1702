"""`panfit serve` on a trained run, as a person starts it: asked, told likes, killed, started again, and looked at.

Called by .ci/run: serve.py RUN TOP BOTTOM SHOE (ids of a known outfit). PANFIT_SHOTS: where the browser's pictures go.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STORY = ROOT / "tests" / "browser" / "story.mjs"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
READY_SECONDS = 120
"""The limit for a busy machine; what it took is printed."""


class Service:
    """A running service, ready to answer."""

    def __init__(self, run: str, database: str, log: Path) -> None:
        since = time.monotonic()
        command = [str(ROOT / ".venv/bin/panfit"), "serve", run, "--port", "0", "--database", database]
        with log.open("a") as told:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("The page: "), f"the service did not start: {log.read_text()}"
        self.url = line.removeprefix("The page: ").strip()
        seconds = time.monotonic() - since
        print(f"ready after {seconds:.1f} s")
        assert seconds < READY_SECONDS, seconds

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
            return json.loads(answer.read())

    def end(self, sig: signal.Signals) -> int:
        self.process.send_signal(sig)
        return self.process.wait(READY_SECONDS)


def main(run: str, *worn: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database, log = f"sqlite:///{folder}/likes.db", Path(folder) / "log"
        first = Service(run, database, log)
        try:
            outfits = first.ask("GET", "v1/recommendations?user=u000&top=3")["outfits"]
            assert len(outfits) == 3, outfits
            given = dict(zip(("top", "bottom"), worn, strict=False))
            completed = first.ask("POST", "v1/complete", {"user": "u000", "given": given, "top": 3})["outfits"]
            assert all({**each["items"], **given} == each["items"] for each in completed), completed
            newcomer = first.ask("POST", "v1/newcomers", {"name": "eve"})["id"]
            first.ask("POST", f"v1/newcomers/{newcomer}/likes", {"outfits": [list(worn)]})
            assert first.end(signal.SIGKILL) == -signal.SIGKILL
        finally:
            first.process.kill()
        second = Service(run, database, log)
        try:
            profile = second.ask("GET", f"v1/newcomers/{newcomer}")
            assert [like["outfit"] for like in profile["likes"]] == [list(worn)], profile
            assert second.ask("GET", "v1/recommendations?user=u000&top=3")["outfits"] == outfits
            story(second.url.rstrip("/"))
            assert second.end(signal.SIGTERM) == 0
        finally:
            second.process.kill()
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        assert not [line for line in lines if line["level"] == "ERROR"], lines
        assert newcomer not in log.read_text(), "an id in the log"
    print("asked, liked, killed, and nothing was lost")


def story(url: str) -> None:
    """The page's story in a browser, where there is one."""
    has_modules = (STORY.parent / "node_modules" / "playwright-core").is_dir()
    if shutil.which("node") is None or not Path(CHROMIUM).exists() or not has_modules:
        print("SKIPPED: the page in a browser, because node, chromium or the modules are not there", file=sys.stderr)
        return
    subprocess.run(["node", STORY, url], env=os.environ | {"CHROMIUM": CHROMIUM}, check=True, timeout=300)


if __name__ == "__main__":
    main(*sys.argv[1:])
