"""The command that serves a trained run: `panfit serve`."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from panfit.cli.terminal import stderr
from panfit.errors import DataError, MissingExtraError

DEMO = Path("demo")
DEMO_RUN, DEMO_TRUNK = Path("runs/ul-hn-an"), Path("runs/trunk/trunk.safetensors")
"""Of a demo's folder: PAN's run, and the trunk that made its maps."""
PORT = 8000
NEEDED = {
    name.replace("-", "_"): name
    for name in (
        "fastapi",
        "uvicorn",
        "httptools",
        "jinja2",
        "sqlalchemy",
        "alembic",
        "prometheus-client",
        "python-multipart",
    )
}
"""What panfit[serve] brings: module -> package."""


def serve(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", envvar="PANFIT_RUN", help="A run folder of PAN; the one of demo/ if not given."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(envvar="PANFIT_DATA", help="The dataset folder, if it is not where it was in training."),
    ] = None,
    host: Annotated[
        str, typer.Option(envvar="PANFIT_HOST", help="Where to listen; other than this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PANFIT_PORT", min=0, max=65535, help="0: a free one.")] = PORT,
    database: Annotated[
        str | None,
        typer.Option(envvar="PANFIT_DATABASE", metavar="URL", help="Of the likes; RUN/likes.db if not given."),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--database-password-file", envvar="PANFIT_DATABASE_PASSWORD_FILE", help="The password of the URL."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PANFIT_TOKEN_FILE", help="A file with the token that everybody must send. Or set PANFIT_TOKEN."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(envvar="PANFIT_WORKERS", min=1, max=64, help="Processes, each with a model of its own.")
    ] = 1,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PANFIT_TRUSTED_PROXY", metavar="IP", help="Whose X-Forwarded-For is believed; may be repeated."
        ),
    ] = None,
    secure_cookies: Annotated[
        bool, typer.Option("--secure-cookies", envvar="PANFIT_SECURE_COOKIES", help="For a service behind TLS.")
    ] = False,
    limits: Annotated[
        Path | None, typer.Option(envvar="PANFIT_LIMITS", help="A TOML file of limits (docs/serving.md).")
    ] = None,
    trunk_weights: Annotated[
        Path | None,
        typer.Option(envvar="PANFIT_TRUNK_WEIGHTS", help="For a run on stored maps: its trunk's, to score photos."),
    ] = None,
    codes: Annotated[
        Path | None, typer.Option(envvar="PANFIT_CODES", help="Where code tables are kept; RUN/codes if not given.")
    ] = None,
    changed: Annotated[
        bool,
        typer.Option(
            "--allow-changed",
            envvar="PANFIT_ALLOW_CHANGED",
            help="Take data that has changed since training, as today's catalogue.",
        ),
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure-no-token", help="Be reachable from other machines without a token.")
    ] = False,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """An HTTP service and a page for a trained run. Ctrl-C ends it."""
    if run is None:
        run, trunk_weights = demo_run(DEMO, trunk_weights)
    require_extra()
    from panfit.serve.start import Start, check_folder, listen, make_config

    check_folder(run)
    config = make_config(
        run,
        database=database,
        password_file=password_file,
        token=os.environ.get("PANFIT_TOKEN") or None,
        token_file=token_file,
        limits_file=limits,
        trusted_proxies=tuple(trusted_proxy or ()),
        secure_cookies=secure_cookies,
    )
    listener = listen(host, port, has_token=config.token is not None, without_token=insecure)
    stderr().print(f"loading {run} ...", highlight=False, soft_wrap=True)
    from panfit.serve.run import serve as run_service

    def ready(url: str) -> None:
        print(f"The page: {url}", flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(url)

    start = Start(run=run, config=config, data=data, allow_changed=changed, trunk_weights=trunk_weights, codes=codes)
    run_service(start, listener, workers=workers, ready=ready)


def demo_run(demo: Path, trunk_weights: Path | None = None) -> tuple[Path, Path]:
    """The run of a demo's folder that is served, and the weights with which it scores new photos.

    Raises:
        DataError: no demo is there, or none that has ended.
    """
    run = demo / DEMO_RUN
    if not (run / "best").is_dir():
        raise DataError(
            f"no run is named, and there is none of a demo in {demo}/. Name a RUN, or run `panfit demo` first"
        )
    return run, trunk_weights or demo / DEMO_TRUNK


def require_extra() -> None:
    """Raise MissingExtraError where a package that only the service needs is not installed."""
    for package, name in NEEDED.items():
        if find_spec(package) is None:
            raise MissingExtraError(name, "serve")
