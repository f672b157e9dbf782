"""What is said of a row that a schema turns down: who did it, and for what, without the value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from ..errors import SchemaError
from ..rejection import RejectedRowError, Rejection
from .certificate import join_path

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic_core import ErrorDetails

_KINDS: frozenset[str] = frozenset(get_args(ErrorType))
_LABELS = frozenset({
    "[key]", "bool", "date", "datetime", "decimal", "dict", "float", "int", "list", "none", "set",
    "str", "time", "timedelta", "tuple", "uuid", "constrained-int", "constrained-float",
    "constrained-str", *map(str, range(1000)),
})  # fmt: skip
"""Parts of pydantic's paths that are no keys: places in lists, options of unions."""


class UnreadableRowError(ValueError):
    """What would be written for a row is not read back as the same row."""


def declared_names(schema: Any) -> frozenset[str]:
    """Return the names that a JSON Schema gives to fields and definitions, wherever they are.

    Example: `declared_names({"properties": {"age": {}}}) == {"age"}`
    """
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in ("properties", "$defs", "definitions"):
                found.update(value[key] if isinstance(value.get(key), dict) else ())
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return frozenset(found)


def shown_path(path: Iterable[str | int], declared: Collection[str]) -> str:
    """Return a path of which only declared names are shown: a key of a free mapping is a value.

    Example: `shown_path(["scores", "Ada", 0], {"scores"}) == "scores.*.0"`
    """
    known = (part if part in declared or part in _LABELS else "*" for part in map(_text, path))
    return ".".join(known)


def _text(part: str | int) -> str:
    return part if isinstance(part, str) else str(part)


@contextmanager
def one_line(declared: Collection[str]) -> Iterator[None]:
    """Turn pydantic's report into `field: what is wrong`, without the value: it may be private.

    Neither undeclared keys nor the words of a validator are quoted, unless its code has these
    words as they are.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = shown_path(first["loc"], declared)
        prefix = f"{where}: " if where else ""
        raise RejectedRowError(_rejection(first, prefix)) from None
    except SchemaError:
        raise
    except (Exception, SystemExit) as error:  # of a validator, which may raise anything
        said = type(error).__name__
        raise RejectedRowError(Rejection(_raiser(error), said)) from None


def _rejection(error: ErrorDetails, prefix: str) -> Rejection:
    """Return pydantic's error in words of the schema, of pydantic or of a validator's code.

    `prefix` is put before the validator's name: rejections of different fields count apart.
    """
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, Exception) and (trace := raised.__traceback__) is not None:
        name = trace.tb_frame.f_code.co_name
        known = str(raised) in _texts(trace) or _module(trace) == "outlines"  # its pattern alone
        return Rejection(prefix + name, error["msg"] if known else type(raised).__name__)
    return Rejection(prefix + _words(error))


def _words(error: ErrorDetails) -> str:
    """Return the message of an error that no validator raised."""
    kind = error["type"]
    if kind == "union_tag_invalid":
        return f"the tag is none of {error['ctx']['expected_tags']}"
    if kind == "uuid_parsing":
        return "Input should be a valid UUID"
    if kind == "import_error" or kind in ("value_error", "assertion_error") or kind not in _KINDS:
        return f"Input is not valid ({kind})"
    return error["msg"]


def _module(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0]


def _texts(trace: TracebackType | None) -> set[object]:
    """The strings that stand in the code of the functions of a trace."""
    found: set[object] = set()
    while trace is not None:
        found.update(text for text in trace.tb_frame.f_code.co_consts if isinstance(text, str))
        trace = trace.tb_next
    return found


def _raiser(error: BaseException) -> str:
    """The name of the first function in the trace that is neither pydantic's nor ours."""
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        ours = module == "contextlib" or module.rpartition(".")[0] == __package__
        if not ours and module.partition(".")[0] != "pydantic":
            return trace.tb_frame.f_code.co_name
        trace = trace.tb_next
    return "pydantic"


def difference(one: Any, other: Any, declared: Collection[str], path: str = "$") -> str:
    """Return the path of the first place at which two JSON values differ, "" if they are equal.

    Example: `difference({"a": 1}, {"a": 2}, {"a"}) == "$.a"`
    """
    if one == other:
        return ""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        names = {key: join_path(path, key) if key in declared else f"{path}.*" for key in one}
        found = (difference(one[key], other[key], declared, names[key]) for key in one)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = (difference(a, b, declared, f"{path}[*]") for a, b in zip(one, other, strict=True))
    else:
        return path
    return next(filter(None, found), path)


def field_in_trace(error: BaseException) -> str:
    """Return the field whose schema pydantic was making when it raised, "" if it was none.

    Example: `field_in_trace(ValueError()) == ""`
    """
    names: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        known, name = frame.f_locals, frame.f_locals.get("name")
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if (
            module == "pydantic"
            and isinstance(name, str)
            and {"field_info", "field"} & known.keys()
        ):
            names += [name] if names[-1:] != [name] else []
    return ".".join(names)
