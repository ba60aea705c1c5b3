"""Reads Stripe's form encoding, and refuses what the contract does not name.

The contract's request schemas are compiled once per endpoint into small functions, because a
general schema walk for each call would cost more than the call itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from .contract import load
from .errors import ApiError, bad_parameter, missing

Check = Callable[[Any, str], Any]

METADATA_KEYS = 50
METADATA_KEY_LENGTH = 40
METADATA_VALUE_LENGTH = 500


def decode(text: str) -> dict[str, Any]:
    """Turn ``a[b][0]=c`` into nested dicts; lists stay dicts keyed by index until checked."""
    tree: dict[str, Any] = {}
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        *way, last = _steps(name)
        node = tree
        for step in way:
            inner = node.get(step)
            if not isinstance(inner, dict):
                inner = node[step] = {}
            node = inner
        node[last or str(len(node))] = unquote_plus(value) if _is_quoted(value) else value
    return tree


@lru_cache(maxsize=4096)
def _steps(name: str) -> tuple[str, ...]:
    """``a[b][]`` as ``("a", "b", "")``; the same few hundred names come again and again."""
    return tuple(part.removesuffix("]") for part in unquote_plus(name).split("["))


def _is_quoted(text: str) -> bool:
    return "%" in text or "+" in text


class Requests:
    """The contract's request schemas, compiled when an endpoint is first called."""

    def __init__(self) -> None:
        contract = load()
        self._schemas: dict[str, Any] = contract["requests"]
        self._defs: dict[str, Any] = contract["$defs"]
        self._checks: dict[str, Check] = {}
        self._named: dict[str, Check] = {}

    def read(self, endpoint: str, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with their types, e.g. ``endpoint="POST /v1/refunds"``.

        Raises ApiError: ``parameter_unknown``, ``parameter_missing`` and their like.
        """
        check = self._checks.get(endpoint)
        if check is None:
            check = self._checks[endpoint] = self._compile(self._schemas[endpoint])
        params: dict[str, Any] = check(tree, "")
        return params

    def _compile(self, schema: dict[str, Any]) -> Check:
        if "$ref" in schema:
            return self._by_name(schema["$ref"].removeprefix("#/$defs/"))
        if "anyOf" in schema:
            return self._either(schema["anyOf"])
        kinds = schema.get("type")
        kind = next((k for k in kinds if k != "null"), None) if isinstance(kinds, list) else kinds
        if kind == "array":
            return _list_of(self._compile(schema.get("items", {})))
        if kind == "object":
            return self._object(schema)
        return _scalar(kind, schema.get("enum"), clearable=isinstance(kinds, list))

    def _by_name(self, name: str) -> Check:
        """Compile a shared schema once; the indirection lets a schema contain itself."""

        def check(value: Any, at: str) -> Any:
            known = self._named.get(name)
            if known is None:
                known = self._named[name] = self._compile(self._defs[name])
            return known(value, at)

        return check

    def _either(self, options: list[dict[str, Any]]) -> Check:
        clearable = any(o.get("type") == "null" or o.get("enum") == [""] for o in options)
        rest = [o for o in options if o.get("type") != "null" and o.get("enum") != [""]]
        flat = [self._compile(o) for o in rest if self._is_scalar(o)]
        nested = [self._compile(o) for o in rest if not self._is_scalar(o)]

        def check(value: Any, at: str) -> Any:
            if value == "" and clearable:
                return None
            options = nested if isinstance(value, dict) else flat
            problem: ApiError | None = None
            for option in options or nested or flat:
                try:
                    return option(value, at)
                except ApiError as error:
                    problem = error
            assert problem is not None
            raise problem

        return check

    def _is_scalar(self, schema: dict[str, Any]) -> bool:
        while "$ref" in schema:
            schema = self._defs[schema["$ref"].removeprefix("#/$defs/")]
        return schema.get("type") not in ("object", "array")

    def _object(self, schema: dict[str, Any]) -> Check:
        if "properties" not in schema and isinstance(schema.get("additionalProperties"), dict):
            return _map_of(self._compile(schema["additionalProperties"]))
        fields = {k: self._compile(v) for k, v in schema.get("properties", {}).items()}
        required = schema.get("required", ())

        def check(value: Any, at: str) -> Any:
            if not isinstance(value, dict):
                raise bad_parameter("Invalid object", at)
            read: dict[str, Any] = {}
            for key, inner in value.items():
                name = f"{at}[{key}]" if at else key
                field = fields.get(key)
                if field is None:
                    raise bad_parameter(
                        f"Received unknown parameter: {name}", name, "parameter_unknown"
                    )
                read[key] = _metadata(inner, name) if key == "metadata" else field(inner, name)
            for key in required:
                if key not in read:
                    raise missing(f"{at}[{key}]" if at else key)
            return read

        return check


def _scalar(kind: str | None, allowed: list[Any] | None, *, clearable: bool) -> Check:
    names = frozenset(v for v in allowed if v) if allowed else None

    def check(value: Any, at: str) -> Any:
        if not isinstance(value, str):
            raise bad_parameter(f"Invalid {kind or 'value'}: {at} takes no keys", at)
        if value == "":
            if clearable:
                return None
            raise bad_parameter(
                f"You passed an empty string for '{at}'. We assume empty values are an attempt to "
                f"unset a parameter; however '{at}' cannot be unset. You should remove '{at}' from "
                "your request or supply a non-empty value.",
                at,
                "parameter_invalid_empty",
            )
        if kind == "integer":
            return _integer(value, at)
        if kind == "number":
            return _number(value, at)
        if kind == "boolean":
            if value not in ("true", "false"):
                raise bad_parameter(f"Invalid boolean: {value}", at)
            return value == "true"
        if names is not None and value not in names:
            listed = ", ".join(sorted(names)[:12])
            raise bad_parameter(f"Invalid {at}: must be one of {listed}", at)
        return value

    return check


def _integer(value: str, at: str) -> int:
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise bad_parameter(f"Invalid integer: {value}", at, "parameter_invalid_integer")
    return int(value)


def _number(value: str, at: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?", value):
        raise bad_parameter(f"Invalid number: {value}", at)
    return float(value)


def _list_of(item: Check) -> Check:
    def check(value: Any, at: str) -> Any:
        if not isinstance(value, dict) or not all(k.isdigit() for k in value):
            raise bad_parameter("Invalid array", at)
        return [item(value[k], f"{at}[{k}]") for k in sorted(value, key=int)]

    return check


def _map_of(item: Check) -> Check:
    def check(value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise bad_parameter("Invalid object", at)
        return {k: item(v, f"{at}[{k}]") for k, v in value.items()}

    return check


def _metadata(value: Any, at: str) -> dict[str, str] | None:
    """Keys and values within Stripe's limits; ``None`` empties all, an empty value one key."""
    if value == "":
        return None
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise bad_parameter(
            "Metadata values must be strings, but for the key you passed a hash.", at
        )
    if len(value) > METADATA_KEYS:
        raise bad_parameter(
            f"You attempted to set metadata with {len(value)} keys. "
            f"Metadata can have up to {METADATA_KEYS} keys.",
            at,
        )
    for key, text in value.items():
        if len(key) > METADATA_KEY_LENGTH:
            raise bad_parameter(
                f"Metadata keys can be up to {METADATA_KEY_LENGTH} characters, "
                f"but you passed in a key that is {len(key)} characters.",
                at,
            )
        if len(text) > METADATA_VALUE_LENGTH:
            raise bad_parameter(
                f"Metadata values can have up to {METADATA_VALUE_LENGTH} characters, but you "
                f"passed in a value that is {len(text)} characters. Invalid value: {text}",
                f"{at}[{key}]",
            )
    return dict(value)
