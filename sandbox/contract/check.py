"""Says what is wrong with an object, an event or a request, measured against the contract.

For tests: it needs ``jsonschema``, which the sandbox itself does without.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from . import load

Schema = dict[str, Any]

# Events besides ``*.updated`` that also say what was before.
TELLS_BEFORE = frozenset({"charge.refunded", "payment_intent.amount_capturable_updated"})


def object_problems(obj: dict[str, Any]) -> list[str]:
    """What Stripe would never send: missing, mistyped or invented fields. Empty: all is well."""
    kind = obj.get("object")
    if kind == "list":
        return [
            f"data[{place}] {problem}"
            for place, item in enumerate(obj["data"])
            for problem in object_problems(item)
        ]
    if kind is None and "error" in obj:
        return _problems("error", obj)
    if obj.get("deleted") is True:
        return (
            [] if set(obj) == {"id", "object", "deleted"} else ["a deleted object shows too much"]
        )
    if kind == "event":
        return event_problems(obj)
    if not isinstance(kind, str) or kind not in load()["$defs"]:
        return [f"object {kind!r} is not in the contract"]
    return _problems(kind, obj)


def event_problems(event: dict[str, Any]) -> list[str]:
    """As ``object_problems``, and whether the event carries what its type promises."""
    found = _problems("event", event)
    promised = load()["events"].get(event["type"])
    if promised is None:
        return [*found, f"type {event['type']!r} is not in the contract"]
    carried = event["data"]["object"]
    kinds = promised["object"] if isinstance(promised["object"], list) else [promised["object"]]
    if carried.get("object") not in kinds:
        found.append(f"{event['type']} carries {carried.get('object')!r} instead of {kinds}")
    found += [f"data.object {problem}" for problem in object_problems(carried)]
    tells = event["type"].endswith(".updated") or event["type"] in TELLS_BEFORE
    if "previous_attributes" in event["data"] and not tells:
        found.append(f"{event['type']} must not say what was before")
    return found


def request_problems(endpoint: str, params: dict[str, Any]) -> list[str]:
    """What Stripe would refuse, e.g. for ``"POST /v1/refunds"``; values in their own types."""
    schema = load()["requests"].get(endpoint)
    if schema is None:
        return [f"there is no endpoint {endpoint}"]
    whole = {**schema, "$defs": load()["$defs"]}
    return [_tell(error) for error in Draft202012Validator(whole).iter_errors(params)]


def _problems(kind: str, obj: dict[str, Any]) -> list[str]:
    return [_tell(error) for error in _validator(kind).iter_errors(obj)]


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": _closed()})


@cache
def _closed() -> Schema:
    """The definitions with every object closed: a field that is not listed is an invented one."""
    definitions: Schema = copy.deepcopy(load()["$defs"])
    _close(definitions)
    return definitions


def _close(node: Any) -> None:
    if isinstance(node, list):
        for inner in node:
            _close(inner)
    elif isinstance(node, dict):
        listed = node.get("properties")
        # Two or fewer listed fields are stand-ins for objects that the contract does not describe.
        if isinstance(listed, dict) and len(listed) > 2:
            node.setdefault("additionalProperties", False)
        for inner in node.values():
            _close(inner)


def _tell(error: ValidationError) -> str:
    deepest = best_match([error]) or error
    place = ".".join(map(str, deepest.absolute_path)) or "as a whole"
    return f"{place}: {deepest.message[:200]}"
