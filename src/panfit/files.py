"""A small text file, written whole or not at all. Imports the standard library only."""

import os
from pathlib import Path


def write_aside(path: Path, text: str) -> None:
    """Write under another name, then rename, so that no reader and no full disk sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, "utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
