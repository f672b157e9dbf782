"""References of a JSON Schema: their targets, and which of them are recursive.

Knows JSON Pointer (RFC 6901), `$id`, anchors and the published meta-schemas; opens no files and
no sockets. Does not know what other keywords mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any
from urllib.parse import unquote, urljoin

from ...errors import SchemaError

_OLD = ("draft-03", "draft-04", "draft-05", "draft-06", "draft-07")
_SINCE_2020 = frozenset({"prefixItems", "$dynamicRef"})
_SINCE_2019 = _SINCE_2020 | {
    "$recursiveRef", "dependentRequired", "dependentSchemas", "maxContains", "minContains",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_SINCE_7 = _SINCE_2019 | {"if", "then", "else"}
_LATER = {
    "2019-09": _SINCE_2020,
    "draft-07": _SINCE_2019,
    "draft-06": _SINCE_7,
    "draft-04": _SINCE_7 | {"const", "contains", "propertyNames"},
}
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_REFERENCES = ("$ref", *_DYNAMIC)
_LARGE = 30  # ways in, times ways out


@contextmanager
def nothing_outside() -> Iterator[None]:
    """Turn a validator's error about a reference to another document into a SchemaError.

    Example: `with nothing_outside(): judge(schema).is_valid(value)`
    """
    from referencing.exceptions import Unresolvable

    try:
        yield
    except Unresolvable as error:
        raise _outside_error(str(error.ref), "$") from None


def _outside_error(reference: str, path: str) -> SchemaError:
    return SchemaError(
        f"{path}: keyword '$ref': the target '{reference}' is outside the schema.",
        hint="Put the target into $defs.",
    )


class References:
    """The references of one document.

    `ref_overrides_siblings`: whether keywords beside a `$ref` are ignored, as up to draft 7.
    `unknown_keywords` are those of later drafts than the document's, which are ignored in it.

    Example: `References({"$defs": {"a": True}}).resolve("#/$defs/a")`
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        draft = root.get("$schema", "")
        self.ref_overrides_siblings = isinstance(draft, str) and any(name in draft for name in _OLD)
        self.unknown_keywords = frozenset[str]().union(
            *(words for name, words in _LATER.items() if isinstance(draft, str) and name in draft)
        )
        self._found: dict[str, Any] = {}
        self._edges: dict[str, frozenset[str]] = {}
        self._cycles: dict[str, frozenset[str]] = {}

    def known_keywords(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a schema without the keywords that the document's draft does not know.

        Example: `References({}).known_keywords({"type": "null"}) == {"type": "null"}`
        """
        if self.unknown_keywords.isdisjoint(schema):
            return schema
        return {key: value for key, value in schema.items() if key not in self.unknown_keywords}

    def resolve(self, reference: str, path: str = "$") -> Any:
        """Return the target of a reference.

        Raises SchemaError, naming `path`, if the target is outside the document or missing.
        """
        if reference not in self._found:
            self._found[reference] = self._look_up(reference, path)
        return self._found[reference]

    def cycle(self, reference: str) -> frozenset[str]:
        """Return the references that lead to this one and to which it leads: its cycle.

        Empty for a reference that is not recursive.
        """
        if reference not in self._cycles:
            reached = self._closure([reference], self._references_in)
            sources: dict[str, set[str]] = {}
            for name in reached:
                for target in self._references_in(name):
                    sources.setdefault(target, set()).add(name)
            found = self._closure([reference], lambda name: sources.get(name, ())) & reached
            self._cycles.update(dict.fromkeys(found or {reference}, frozenset(found)))
        return self._cycles[reference]

    @cached_property
    def recursive(self) -> bool:
        """True if any reference of the document is recursive."""
        return bool(_on_cycles(self._graph))

    @cached_property
    def hubs(self) -> frozenset[str]:
        """The references in which large cycles meet: without them, only small cycles are left.

        A reference counts by how many others lead to it and how many it leads to.
        """
        graph, found = _on_cycles(self._graph), set[str]()
        while graph:
            sources = Counter(target for targets in graph.values() for target in targets)
            name = max(sorted(graph), key=lambda n: sources[n] * len(graph[n]))
            if sources[name] * len(graph[name]) < _LARGE:
                break
            found.add(name)
            graph.pop(name)
            graph = _on_cycles({n: targets - {name} for n, targets in graph.items()})
        return frozenset(found)

    @cached_property
    def _graph(self) -> dict[str, frozenset[str]]:
        """The references of the document's root, and those that are reached through them."""
        entered = {k: v for k, v in self._root.items() if k not in ("definitions", "$defs")}
        first = list(references_in(entered))
        names = {*first, *self._closure(first, self._references_in)}
        return {name: self._references_in(name) for name in names}

    def _look_up(self, reference: str, path: str) -> Any:
        where, _, fragment = reference.partition("#")
        document = self._root if not where else self._named.get(where)
        if document is None:
            document = self._named.get(urljoin(self._base, where))
        if document is None:
            document = _published(where)
        if document is None:
            raise _outside_error(reference, path)
        if not fragment or fragment.startswith("/"):
            return _follow_pointer(document, fragment, reference, path)
        if f"#{fragment}" in self._named:
            return self._named[f"#{fragment}"]
        raise _missing_error(reference, path)

    @property
    def _base(self) -> str:
        return str(self._root.get("$id", self._root.get("id", "")))

    @cached_property
    def _named(self) -> dict[str, Any]:
        """Schemas by their own name: `$id`, `id`, `$anchor`."""
        names: dict[str, Any] = {}
        for schema in _mappings(self._root):
            for keyword in ("$id", "id"):
                if isinstance(name := schema.get(keyword), str):
                    names.setdefault(name.rstrip("#") if name != "#" else name, schema)
                    names.setdefault(urljoin(self._base, name).rstrip("#"), schema)
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := schema.get(keyword), str):
                    names.setdefault(f"#{name}", schema)
        return names

    def _references_in(self, reference: str) -> frozenset[str]:
        """Return possible references in the target; one in an example may have no target."""
        if reference not in self._edges:
            try:
                found = frozenset(references_in(self.resolve(reference)))
            except SchemaError:
                found = frozenset()
            self._edges[reference] = found
        return self._edges[reference]

    @staticmethod
    def _closure(first: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
        """Return the names that can be reached from `first` in one step or more."""
        found: set[str] = set()
        waiting = list(first)
        while waiting:
            for name in following(waiting.pop()):
                if name not in found:
                    found.add(name)
                    waiting.append(name)
        return found


def references_in(schema: Any) -> Iterator[str]:
    """Yield possible references within a schema, without following them.

    Example: `list(references_in({"items": {"$ref": "#/$defs/a"}})) == ["#/$defs/a"]`
    """
    for mapping in _mappings(schema):
        for keyword in _REFERENCES:
            if isinstance(name := mapping.get(keyword), str):
                yield name


def _on_cycles(graph: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the nodes of a graph between or on cycles."""
    left = dict(graph)
    while left:
        targeted = frozenset[str]().union(*left.values())
        kept = {n: t & left.keys() for n, t in left.items() if n in targeted and t & left.keys()}
        if kept == left:
            break
        left = kept
    return left


def part_of(schema: Any, place: str) -> Any:
    """Return a JSON Schema for use within another at `place`: its references are adapted.

    Example: `part_of({"$ref": "#/$defs/a"}, "#/items") == {"$ref": "#/items/$defs/a"}`
    """
    if isinstance(schema, list):
        return [part_of(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: part_of(value, place) for key, value in schema.items()}
    if isinstance(target := schema.get("$ref"), str) and target.startswith("#"):
        moved["$ref"] = f"{place}{target[1:]}"
    return moved


def _follow_pointer(document: Any, fragment: str, reference: str, path: str) -> Any:
    found = document
    for part in unquote(fragment).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            raise _missing_error(reference, path)
    if not isinstance(found, bool | dict):
        raise _missing_error(reference, path)
    return found


def _missing_error(reference: str, path: str) -> SchemaError:
    return SchemaError(
        f"{path}: keyword '$ref': the target '{reference}' does not exist.", hint="Check $defs."
    )


@cache
def _published(where: str) -> Any:
    """Return a meta-schema that comes with jsonschema, with absolute references."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    resource = REGISTRY.get(where) or REGISTRY.get(f"{where}#")
    return None if resource is None else _make_absolute(resource.contents, where)


def _make_absolute(value: Any, base: str) -> Any:
    """Make references absolute; the dynamic ones lead to the whole meta-schema."""
    if isinstance(value, list):
        return [_make_absolute(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    placed = {key: _make_absolute(item, base) for key, item in value.items()}
    for keyword in _REFERENCES:
        if isinstance(reference := value.get(keyword), str):
            whole = urljoin(base.partition("meta/")[0], "schema")
            placed[keyword] = whole if keyword in _DYNAMIC else urljoin(base, reference)
    return placed


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _mappings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _mappings(item)
