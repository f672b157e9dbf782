"""What is said of a row that a schema turns down: who did it, and for what, without the value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import SchemaError
from .certificate import join_path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SAYS = " says: "
"""Stands in a reason between who turned a row down and what it said, which may be about the row."""


class UnreadableRowError(ValueError):
    """What would be written for a row is not read back as the same row."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turn pydantic's report into `field: what is wrong`, without the value: it may be private."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"]
        if first["type"] == "union_tag_invalid":  # the only message that quotes a whole value
            said = f"the tag is none of {first['ctx']['expected_tags']}"
        if name := _validator(first):
            said = f"{name}{SAYS}{said}"
        raise ValueError(f"{where}: {said}" if where else said) from None
    except SchemaError:
        raise
    except (Exception, SystemExit) as error:  # of a validator, which may raise anything
        said = type(error).__name__
        raise ValueError(f"{_raiser(error)}{SAYS}{said}") from None


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


def _validator(error: ErrorDetails) -> str:
    """The name of the function of the user's that raised, if one did."""
    raised = error.get("ctx", {}).get("error")
    trace = raised.__traceback__ if isinstance(raised, Exception) else None
    return trace.tb_frame.f_code.co_name if trace is not None else ""


def difference(one: Any, other: Any, path: str = "$") -> str:
    """Return the path of the first place at which two JSON values differ, "" if they are equal.

    Example: `difference({"a": 1}, {"a": 2}) == "$.a"`
    """
    if one == other:
        return ""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        found = (difference(one[key], other[key], join_path(path, key)) for key in one)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = (difference(a, b, f"{path}[*]") for a, b in zip(one, other, strict=True))
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
