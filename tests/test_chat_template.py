"""Chat templates out of files that somebody else made: programs that must do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthgen_local import PromptError
from synthgen_local.prompting import chat_template
from synthgen_local.prompting.chat_template import render
from synthgen_local.prompting.prompts import Message, conversation

SECRET = "Ada Byron, J20.9"
MESSAGES = [{"role": "user", "content": SECRET}]

HOSTILE = {
    "range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "doubled text": "{% set n = namespace(s='abcdefgh') %}{% for i in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | length }}",
    "doubled list": "{% set n = namespace(s=[1]) %}{% for i in range(60) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}{{ n.s | length }}",
    "big integer": "{{ 10 ** (10 ** 9) }}",
    "times": "{{ 'a' * 10 ** 10 }}",
    "width": "{{ '%1000000000d' % 1 }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "filter": "{{ 'a' | center(10 ** 9) }}",
    "method": "{{ '1'.zfill(10 ** 10) }}",
    "batch": "{{ [1] | batch(10 ** 9, 1) | list }}",
    "output": "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "size": "a" * (2 << 20),
    "depth": f"{{{{ {'(' * 50_000}1{')' * 50_000} }}}}",
    "blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "file": "{% include '/etc/passwd' %}",
    "class": "{{ ''.__class__.__mro__ }}",
    "function": "{{ raise_exception.__globals__.os }}",
    "change": "{{ messages.append(1) }}",
    "refusal": "{{ raise_exception('no: ' ~ messages[0].content ~ '\x1b[2J') }}",
    "shouted refusal": "{{ raise_exception(messages[0].content | upper) }}",
    "reversed refusal": "{{ raise_exception(messages[0].content | reverse) }}",
    "shouted name": "{{ messages[0][messages[0].content | upper].x }}",
    "shouted filter": "{{ 'x' | round(messages[0].content | lower) }}",
    "missing": "{{ messages[0][messages[0].content].x }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name: str) -> None:
    """Each ends in an error of a line with a hint, which does not say what the messages say."""
    with pytest.raises(PromptError, match="The model's chat template") as caught:
        render(HOSTILE[name], MESSAGES, {})

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert not any(
        part in str(caught.value).lower() for part in ("ada", "byron", "j20", "nory", "02j")
    )
    assert caught.value.hint


def test_the_next_template_is_rendered() -> None:
    """A template that takes all the time is ended by the kernel; the next one finds a renderer."""
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    assert render("{{ bos }}", MESSAGES, {"bos": "<s>"}) == "<s>"
    before = chat_template._renderer._process

    with pytest.raises(PromptError, match="takes more than 2 s"):
        render(endless, MESSAGES, {})
    assert before is not None
    assert before.returncode == -signal.SIGPROF
    assert render("{{ messages[0].content }}", MESSAGES, {}) == SECRET


def test_one_process_for_all() -> None:
    """Renderings share a process, and nothing that one of them has set is there for the next."""
    render("{% set left = 1 %}{{ messages[0].update }}", MESSAGES, {})
    process = chat_template._renderer._process

    assert render("{{ left is defined }}", MESSAGES, {}) == "False"
    assert chat_template._renderer._process is process


@pytest.mark.parametrize("text", ["ü 鶕 😀", "a\u2028b\r\n\n c", "\x00\x1b", "\ud800"])
def test_text_comes_through(text: str) -> None:
    """Whatever a message says is rendered as it is."""
    message = [{"role": "user", "content": text}]

    assert render("{{ messages[0].content }}|", message, {}) == f"{text}|"


def test_a_killed_renderer_is_replaced() -> None:
    """A renderer that somebody ends is an error once."""
    render("x", MESSAGES, {})
    process = chat_template._renderer._process
    assert process is not None
    process.kill()
    process.wait()

    with pytest.raises(PromptError):
        render("x", MESSAGES, {})
    assert render("x", MESSAGES, {}) == "x"


def test_it_ends_with_its_parent() -> None:
    """A parent that is killed leaves no renderer behind; one that ends says nothing."""
    code = (
        "import os, signal, sys\nfrom synthgen_local.prompting import chat_template\n"
        "chat_template.render('x', [], {})\n"
        "print(chat_template._renderer._process.pid, flush=True)\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), signal.SIGKILL)"
    )
    for way in ("kill", "end"):
        command = [sys.executable, "-W", "error", "-X", "dev", "-c", code, way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        pid = int(done.stdout)
        for _ in range(100):
            if not alive(pid):
                break
            time.sleep(0.05)
        assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_fork_has_a_renderer_of_its_own() -> None:
    """Two processes that were one do not read each other's answers."""
    code = (
        "import os\nfrom synthgen_local.prompting.chat_template import render\n"
        "render('x', [], {})\nchild = os.fork()\n"
        "who = 'child' if child == 0 else 'parent'\n"
        "for _ in range(50): assert render(who, [], {}) == who\n"
        "if child: assert os.waitpid(child, 0)[1] == 0"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_template_that_fails_with_a_system() -> None:
    """A hostile template gets no further where the prompt has a system's message."""
    messages = [Message("system", "Add."), Message("user", "1+1")]

    with pytest.raises(PromptError, match="takes more than 512 MB"):
        conversation(HOSTILE["times"], messages, {})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", f"{SECRET}!"),
        (
            "{% for m in messages %}{%- generation -%} a {% if true %}b{% endif %}"
            "{%- endgeneration -%} c{% endfor %}",
            "a bc",
        ),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "02",
        ),
        ("{{ strftime_now('%d %B %Y') }}", "26 July 2024"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        (
            "{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true, "
            "separators=(',', ':')) }}",
            '{"a":1,"b":"\\u00e9"}',
        ),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ tools is none and documents is none }}", "True"),
    ],
)
def test_what_transformers_gives_templates(template: str, expected: str) -> None:
    """Templates that were written for transformers have its tags, filters and functions."""
    assert render(template, MESSAGES, {}) == expected
