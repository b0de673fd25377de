"""The JSON Schema of configuration files, out of the pydantic types that check them: for editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jlayers.config.defaults import DEFAULTS
from jlayers.config.derive import arguments_model, derive
from jlayers.config.schema import Settings
from jlayers.config.signatures import KINDS, arguments, documentation, names_of, registry_of
from jlayers.config.types import adapter, schema_of
from jlayers.config.variables import VARIABLES
from jlayers.core.registry import Registry

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"^\$\{[^{}]*\}$", "description": "The value of a variable."}
_DEFAULTS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Files that say what this one leaves out, relative to its folder; later ones win.",
}
_VARIABLES = {
    "type": "object",
    "description": "Values by name; ${name} stands for one, ${env:NAME} for an environment variable.",
}


def json_schema() -> dict[str, Any]:
    """The schema of a whole configuration file.

    >>> import jlayers.config
    >>> schema = jlayers.config.json_schema()
    >>> sorted(schema["properties"])[:3]
    ['accumulate', 'augment', 'data']
    """
    definitions: dict[str, Any] = {}
    for kind in KINDS:
        registry = registry_of(kind)
        if registry is not None:
            _define(registry, definitions)
    schema = _with_references(adapter(derive(Settings).type).json_schema(), definitions)
    _allow_variables([schema, *definitions.values()])
    schema["properties"] = {DEFAULTS: _DEFAULTS, VARIABLES: _VARIABLES, **schema["properties"]}
    required = {"required": schema.pop("required")}
    whole = {"anyOf": [required, {"required": [DEFAULTS]}]}
    definitions["variable"] = _VARIABLE
    return {"$schema": _DIALECT, **schema, **whole, "title": "jlayers experiment", "$defs": definitions}


def _allow_variables(schemas: Iterable[Any]) -> None:
    """Let a value of any type be written as a variable: each key and each member of a list."""
    for schema in schemas:
        if isinstance(schema, list):
            _allow_variables(schema)
        elif isinstance(schema, dict):
            _allow_variables(
                [part for name, part in schema.items() if name not in ("const", "enum", "default")]
            )
            properties = schema.get("properties")
            if isinstance(properties, dict):
                properties.update({name: _or_variable(part) for name, part in properties.items()})
            for name in ("items", "additionalProperties"):
                if isinstance(schema.get(name), dict):
                    schema[name] = _or_variable(schema[name])
            if "prefixItems" in schema:
                schema["prefixItems"] = [_or_variable(part) for part in schema["prefixItems"]]


def _or_variable(schema: Any) -> Any:
    if not isinstance(schema, dict) or schema.get("type") == "string" or schema == {"not": {}}:
        return schema
    if "anyOf" in schema and set(schema) <= {"anyOf", "default", "description"}:
        return {**schema, "anyOf": [*schema["anyOf"], {"$ref": "#/$defs/variable"}]}
    text = {"description": schema["description"]} if "description" in schema else {}
    return {**text, "anyOf": [schema, {"$ref": "#/$defs/variable"}]}


def _define(registry: Registry, definitions: dict[str, Any]) -> None:
    """Enter a kind, `Name` or `{Name: arguments}`, and the arguments of each of its constructors."""
    names: list[dict[str, Any]] = []
    properties: dict[str, Any] = {}
    for name in names_of(registry):
        make = registry[name]
        known = arguments(make)
        reference = f"{registry.kind}.{name}"
        schema = arguments_model(name, make).model_json_schema()
        definitions[reference] = _with_references(schema, definitions)
        forms: list[dict[str, Any]] = [{"$ref": f"#/$defs/{reference}"}]
        if known:
            first = schema_of(derive(next(iter(known.values())).hint).type)
            forms.append({"allOf": [{"not": {"type": "object"}}, _with_references(first, definitions)]})
        bare = not any(argument.required for argument in known.values())
        for spelling in registry.spellings(name):
            properties[spelling] = {
                "description": documentation(make),
                "anyOf": forms + [{"type": "null"}] * bare,
            }
            if bare:
                names.append({"const": spelling, "description": documentation(make)})
    definitions[registry.kind] = {
        "anyOf": [
            *([{"anyOf": names}] if names else []),
            {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]
    }


def _with_references(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with kinds as references, and with what it defines itself moved to `definitions`."""
    if isinstance(schema, list):
        return [_with_references(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if kind := schema.get("x-jlayers-kind"):
        rest = {k: v for k, v in schema.items() if k not in ("x-jlayers-kind", "title")}
        return {**rest, "$ref": f"#/$defs/{kind}"}
    own = schema.get("$defs", {})
    for name, value in own.items() if isinstance(own, dict) else ():
        definitions[name] = _with_references(value, definitions)
    return {
        k: _with_references(v, definitions)
        for k, v in schema.items()
        if k not in ("$defs", "title") or k == "properties"
    }
