"""Values of a configuration: from YAML to what a setting wants, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from hierseg.errors import ConfigError

_WANTED: dict[Any, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a group of 'key: value'",
}


def convert(value: Any, hint: Any, name: str) -> Any:
    """Check a plain value against a type hint; lists become tuples, integers become floats where a float is due.

    Args:
        value: as YAML gave it.
        hint: of a field of a settings record.
        name: of the key, for the message.

    Raises:
        ConfigError: the value is of another kind.
    """
    options = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    for option in options:
        origin = get_origin(option) or option
        if value is None and option is type(None):
            return None
        if origin is bool and isinstance(value, bool):
            return value
        if origin is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if origin is float and not isinstance(value, bool):
            number = _number(value)
            if number is not None:
                return number
        if origin is str and isinstance(value, str):
            return value
        if origin is dict and isinstance(value, Mapping):
            return dict(value)
        if origin is tuple and isinstance(value, list | tuple):
            return tuple(convert(item, get_args(option)[0], name) for item in value)
    wanted = " or ".join(
        _WANTED.get(o, "a list") if get_origin(o) is None else _WANTED.get(get_origin(o), "a list") for o in options
    )
    raise ConfigError(f"'{name}' is {value!r}; it must be {wanted}.")


def _number(value: Any) -> float | None:
    # YAML 1.1 reads 1e-4 (no dot) as text.
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def plain_value(value: Any) -> Any:
    """Mappings as dictionaries and tuples as lists, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value
