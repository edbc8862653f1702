"""What a service is told: its database, its token, and what it lets one client do. Imports pydantic alone."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

MIB = 1 << 20


class Limits(BaseModel):
    """How much one request, and one client, may ask for. What is over a limit is refused and does no work."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    body_bytes: int = Field(default=24 * MIB, ge=1024)
    """Of a request's body, photos included."""
    photo_bytes: int = Field(default=8 * MIB, ge=1024)
    """Of one uploaded photo's file."""
    photo_pixels: int = Field(default=24_000_000, ge=64)
    """Width times height of an uploaded photo, said by its header, before anything of it is decoded."""
    top: int = Field(default=100, ge=1)
    """Answers to one question."""
    list_items: int = Field(default=1000, ge=1)
    """Ids in one list of a request: outfits to score, items to choose among, likes."""
    opinions: int = Field(default=2000, ge=1)
    """Likes and dislikes that one newcomer may have."""
    requests_per_minute: int = Field(default=1200, ge=1)
    """Of one client, on average."""
    burst: int = Field(default=200, ge=1)
    """Of one client, at once."""
    waiting: int = Field(default=256, ge=1)
    """Questions that wait for the model; the next one is told to come again (503)."""
    seconds: float = Field(default=60.0, gt=0)
    """After so long a question that still waits is given up (503)."""


class ServeConfig(BaseModel):
    """A service's settings.

    Attributes:
        database: SQLAlchemy URL of the likes: sqlite:///FILE, or postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        token: whoever calls the API must send it (Authorization: Bearer), and the page asks for it; None: nobody must.
        limits: see `Limits`.
        trusted_proxies: addresses whose X-Forwarded-For says who the client is.
        secure_cookies: the page's cookies travel over HTTPS alone; for a service behind TLS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str
    token: SecretStr | None = None
    limits: Limits = Limits()
    trusted_proxies: tuple[str, ...] = ()
    secure_cookies: bool = False
