"""How every command ends: in the pipeline's order, and with an exit status a script can rely on.

0: done. 2: the user's mistake, told in one message on stderr, without a traceback. 130: interrupted.
"""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from panfit.errors import PanfitError

EXIT_MISTAKE, EXIT_INTERRUPTED = 2, 130

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, *FULL)
"""What the operating system refuses and a user can mend; any other OSError is ours, and shows its traceback."""


class Pipeline(TyperGroup):
    """A group that lists its commands as they are registered in `ORDER`, and turns errors into exit statuses."""

    ORDER = (
        "demo", "import", "check", "features", "train", "evaluate", "reproduce",
        "recommend", "score", "complete", "compose", "similar", "newcomer", "explain", "prepare", "serve", "batch",
    )  # fmt: skip
    """Every command has its place here; a name that no command bears yet is passed over."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=self.ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PanfitError as error:
            raise _exit(EXIT_MISTAKE, f"error: {error}") from None
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            place = "" if error.filename is None else f"{error.filename}: "
            remedy = ". Make room, then run the command again" if error.errno in FULL else ""
            raise _exit(EXIT_MISTAKE, f"error: {place}{error.strerror}{remedy}") from None
        except KeyboardInterrupt:
            raise _exit(EXIT_INTERRUPTED, "interrupted") from None


def _exit(status: int, message: str) -> typer.Exit:
    """Say it on stderr, word for word (no markup, no wrapping); returns the exit to raise."""
    typer.echo(message, err=True)
    return typer.Exit(status)
