"""What every group of settings is made of: a frozen base that refuses, ranges, and values from and to TOML.

Imports pydantic only.
"""

import tomllib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panfit.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


class Settings(BaseModel):
    """A frozen group of settings that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


def lay_over(values: dict[str, Any], override: str) -> None:
    """Lay one ``section.key=value`` over nested values; the value is TOML, or a bare word taken as a string."""
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override!r}: wanted section.key=value, such as train.epochs=5")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {key!r} is a value, not a section")
    values[keys[-1]] = value


def explain(error: ValidationError, source: str, root: type[Settings]) -> str:
    lines = [f"{source}: {error.error_count()} problem(s) in the settings"]
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"]) or "(all)"
        if detail["type"] == "extra_forbidden":
            lines.append(f"  {key}: there is no such setting{_available(root, detail['loc'])}")
        else:
            lines.append(f"  {key}: found {detail['input']!r}; {detail['msg'][0].lower()}{detail['msg'][1:]}")
    return "\n".join(lines)


def _available(root: type[Settings], location: tuple[int | str, ...]) -> str:
    settings: Any = root
    for key in location[:-1]:
        settings = settings.model_fields[str(key)].annotation
    return f"; there are: {', '.join(settings.model_fields)}"


def toml_value(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
