"""A model's chat template, rendered where it can do no harm: a process of its own.

Templates are programs out of files that somebody else made. Jinja's immutable sandbox keeps them
from Python's inside but not from using all time and memory, and one operation of it, such as
10 ** 10 ** 9, cannot be interrupted. So there is one process for all renderings, which the kernel
ends when one takes too much; setitimer(2) and setrlimit(2) say what is counted. Knows text, not
what the messages are for.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from ..errors import PromptError
from ..system.memory import memory_hint, memory_limit
from ..system.processes import disable_core_dumps, python

SECONDS = 2.0
"""Processor time that one rendering may take; a usual one takes a thousandth."""

_MEMORY = 1 << 29  # bytes of address space, of which Python and Jinja take some 50 MB
_MOST_TEMPLATE = 1 << 20  # characters
_MOST_TEXT = 1 << 24  # characters
TODAY = datetime(2024, 7, 26)
"""What `strftime_now` formats: a fixed date, so that prompts do not change from day to day.

It is the one that Llama 3's templates name where there is no clock."""

_HINT = "Use another model."


def render(
    template: str, messages: Sequence[Mapping[str, str]], special_tokens: Mapping[str, str]
) -> str:
    """Render messages with a Jinja chat template, up to the model's answer.

    Templates have what transformers gives them: loop controls, `generation` blocks, `tojson` with
    its arguments, `raise_exception` and `strftime_now`, whose date is always that of `TODAY`.

    Raises PromptError if the template fails, does what the sandbox forbids, or takes too much. The
    error names the kind of failure. It quotes nothing that the template wrote, which may be what
    the messages say in another form.

    Example: `render("{{ messages[0].content }}", [{"content": "Hello"}], {}) == "Hello"`
    """
    if len(template) > _MOST_TEMPLATE:
        raise PromptError(f"The model's chat template has {len(template)} characters.", hint=_HINT)
    answer = _renderer.ask([template, list(messages), dict(special_tokens)])
    if answer is None:
        raise PromptError(
            f"The model's chat template takes more than {SECONDS:.0f} s or {_MEMORY >> 20} MB.",
            hint=_HINT if memory_limit() is None else memory_hint(),
        )
    text, reason = answer
    if reason:
        raise PromptError(f"The model's chat template {reason}", hint=_HINT)
    return str(text)


class _Renderer:
    """The process, started at first use and again after it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, request: list[Any]) -> list[str] | None:
        """What the process answers to a request; None if it dies of it."""
        line = json.dumps(request)
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:  # it died while it read
                answer = ""
            except BaseException:  # Ctrl-C: the answer to this would be taken for the next one's
                self._end()
                raise
            if not answer.endswith("\n"):
                self._end()
                return None
        made: list[str] = json.loads(answer)
        return made

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid():  # a fork would share its pipes
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                **python(__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            atexit.register(self._end)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        atexit.unregister(self._end)
        process.kill()
        process.communicate()


_renderer = _Renderer()


def _serve() -> None:
    """Answer requests, a line each, until the other side is gone."""
    import resource
    import signal

    disable_core_dumps()
    if sys.platform == "linux":  # macOS refuses the limit
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    environment = _environment()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer = json.dumps(_answer(environment, *json.loads(line)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _environment() -> Any:
    """Return the sandbox with what transformers adds to it for chat templates."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Marks what the assistant said, for training: here the text stands as it is."""

        tags = {"generation"}  # noqa: RUF012 its base declares it so

        def parse(self, parser: Any) -> nodes.Node:
            lineno = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=lineno)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = TODAY.strftime
    return environment


def _answer(
    environment: Any, template: str, messages: list[dict[str, str]], tokens: dict[str, str]
) -> tuple[str, str]:
    """The text and nothing, or nothing and what the template did instead of a text."""
    try:
        text = environment.from_string(template).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, **tokens
        )
    except _RefusalError:
        return "", "refuses the prompt."
    except MemoryError:
        return "", f"takes more than {_MEMORY >> 20} MB."
    except Exception as error:
        return "", f"fails: {type(error).__name__}."
    if len(text) > _MOST_TEXT:
        return "", f"writes more than {_MOST_TEXT} characters."
    return text, ""


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers' filter does: without HTML's escapes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class _RefusalError(Exception):
    """What a template raises on purpose."""


def _raise(message: Any) -> NoReturn:
    raise _RefusalError(message)


if __name__ == "__main__":
    _serve()
