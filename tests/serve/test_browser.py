"""The page's whole story in a real browser (tests/browser/story.mjs), where there is one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORY = ROOT / "tests" / "browser" / "story.mjs"
MODULES = Path(os.environ.get("PLAYWRIGHT_MODULES", STORY.parent))
TOKEN = "only-a-test-knows-this"
STORY_SECONDS = 600


def _missing() -> str | None:
    """What there is not, or None."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        return "chromium is not installed"
    for name in ("playwright-core", "axe-core"):
        if not (MODULES / "node_modules" / name).is_dir():
            how = "npm install --no-save --no-package-lock --ignore-scripts"
            return f"{name} is not installed: run {how} in tests/browser"
    return None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.serve.page_server", str(tmp_path_factory.mktemp("page"))]
    environment = os.environ | {"PANFIT_TOKEN": TOKEN, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGTERM)


@pytest.mark.skipif(_missing() is not None, reason=str(_missing()))
def test_story_in_a_browser(address: str) -> None:
    environment = os.environ | {"PANFIT_TOKEN": TOKEN, "PLAYWRIGHT_MODULES": str(MODULES)}
    told = subprocess.run(
        ["node", str(STORY), address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=STORY_SECONDS,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
