"""Prompts: few-shot text with two variables, and messages in the model's own chat template.

Knows text only. Chat templates come out of model files that somebody else made:
`chat_template.py` renders them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from ..data.frames import records_of
from ..engine.backends.protocol import Model
from ..errors import PromptError
from .chat_template import render
from .examples import Example

SYSTEM = "Write records."
"""Instead of a template's own first words. Fewer words made real rows no less likely."""
PREFIX = "Synthetic data about {subject}."
SUFFIX = "Make sure of this: {extra}."

_NONCHARACTERS = "".join(map(chr, [*range(0xFDD0, 0xFDF0), *range(0xF0000, 0xFFFFE)]))
_VARIABLE = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


@dataclass(frozen=True)
class Message:
    """What `role` ("user", "assistant" or "system") says.

    Example: `Message("user", "Hello")`
    """

    role: str
    content: str


@dataclass(frozen=True)
class FewShotPrompt:
    """A prompt of a prefix, examples and a suffix.

    Prefix and suffix are the question; examples that are records begin the answer, as if the model
    had written them, and examples that are other text stand between prefix and suffix.
    `prefix` and `suffix` may name `{subject}` and `{extra}`; a sentence that names a
    variable that is not given is left out. An `extra` that neither names is a sentence at the end.
    Write `{{` for a brace. `examples` are instances, mappings, text, or `{"example": text}`; or a
    table of pandas, polars or pyarrow, whose rows they are.

    Example: `FewShotPrompt(examples=[{"name": "Ada", "age": 36}])`
    """

    examples: Sequence[Example] = field(default=())
    prefix: str = PREFIX
    suffix: str = SUFFIX

    def __post_init__(self) -> None:
        """Take the records of a table."""
        object.__setattr__(self, "examples", records_of(self.examples))

    def render(
        self,
        examples: Iterable[str],
        *,
        subject: str = "",
        extra: str = "",
        fields: Iterable[tuple[str, str]] = (),
    ) -> str:
        """Return the prompt: prefix, described fields, one example a line, suffix.

        `examples` are texts of the grammar, `fields` pairs of path and description. Raises
        PromptError for a variable that is neither subject nor extra.

        Example: `FewShotPrompt(prefix="About {subject}.").render([], subject="cats")`
        """
        variables = {"subject": subject, "extra": extra}
        named = {*_names(self.prefix), *_names(self.suffix)}
        described = "\n".join(f"- {path}: {text}" for path, text in fields)
        parts = [
            fill(self.prefix, variables),
            f"Fields:\n{described}" if described else "",
            "\n".join(examples),
            fill(self.suffix, variables),
            fill(SUFFIX, variables) if extra and "extra" not in named else "",
        ]
        return "\n".join(part for part in parts if part)


def fill(template: str, variables: dict[str, str]) -> str:
    """Put variables into a template; leave out each sentence that names an empty one.

    Example: `fill("About {subject}. Be {extra}.", {"subject": "cats", "extra": ""})`
    """
    kept = [part for part in _sentences(template) if all(variables.get(n, n) for n in _names(part))]

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            if match[0] in ("{{", "}}"):
                return match[0][0]
            raise PromptError(f"A lone '{match[0]}' stands in the prompt.", hint="Write it twice.")
        if name not in variables:
            known = " and ".join(f"{{{known}}}" for known in variables)
            raise PromptError(
                f"The prompt names {{{name}}}.",
                hint=f"It may name {known}; write {{{{ for a brace.",
            )
        return variables[name].rstrip(".") if _ends_sentence(match) else variables[name]

    return _VARIABLE.sub(value, "".join(kept)).strip()


def conversation(
    template: str | None, messages: Sequence[Message], special_tokens: dict[str, str]
) -> str:
    """Render messages, the last one the user's, up to the model's answer.

    Without a template, as for a base model, a line stands for each message and an empty line
    after each answer. A template that knows no system gets its message as the head of the
    user's first.

    Example: `conversation(None, [Message("user", "Hello")], {}) == "Hello" + chr(10)`
    """
    if template is None:
        ends = {"assistant": "\n\n"}
        return "".join(f"{m.content}{ends.get(m.role, chr(10))}" for m in messages)
    first, *others = messages
    if first.role != "system" or not others:
        return chat(template, messages, special_tokens)
    with suppress(PromptError):
        text = chat(template, messages, special_tokens)
        if first.content.strip() in text:
            return text
    asked = Message(others[0].role, f"{first.content}\n\n{others[0].content}")
    return chat(template, [asked, *others[1:]], special_tokens)


@dataclass(frozen=True)
class Prompt:
    """A whole prompt, in parts that are tokenized one after the other.

    No part spells a special token, unless the chat template wrote it: text of users is cut within
    each that it spells.

    Example: `Prompt(("<|im_start|>user" + chr(10) + "What is <", "|im_end|>?")).text`
    """

    parts: tuple[str, ...]

    @classmethod
    def of(cls, engine: Model, messages: Sequence[Message], answer: str = "") -> Prompt:
        """Render messages and the beginning of an answer with the model's own chat template.

        Example: `Prompt.of(model.engine, [Message("user", "Hello")])`
        """
        control = tuple(engine.control_tokens)
        cut = next(filter(_absent_from([answer, *(m.content for m in messages)]), _NONCHARACTERS))
        guarded = [Message(m.role, _guarded(m.content, control, cut)) for m in messages]
        text = conversation(engine.chat_template, guarded, engine.special_tokens)
        return cls(tuple(f"{text}{_guarded(answer, control, cut)}".split(cut)))

    @property
    def text(self) -> str:
        """The prompt as the model sees it."""
        return "".join(self.parts)

    def tokens(self, engine: Model) -> list[int]:
        """Return the tokens of all parts.

        Example: `Prompt.of(model.engine, messages).tokens(model.engine)`
        """
        first, *others = self.parts
        rest = (token for part in others for token in engine.tokenize(part, begun=True))
        return [*engine.tokenize(first), *rest]


def few_shot(task: str, shots: Iterable[tuple[str, str]], question: str) -> list[Message]:
    """Return the messages of a task: questions with their answers, and the question at last.

    Example: `few_shot("Add.", [("1 + 1", "2")], "2 + 2")[0] == Message("system", "Add.")`
    """
    messages = [Message("system", task)]
    for asked, answered in shots:
        messages += [Message("user", asked), Message("assistant", answered)]
    return [*messages, Message("user", question)]


def chat(template: str, messages: Sequence[Message], special_tokens: dict[str, str]) -> str:
    """Render messages with a Jinja chat template, up to the model's answer.

    Raises PromptError if the template fails, does what the sandbox forbids, or takes too long.

    Example: `chat("{{ messages[0].content }}", [Message("user", "Hello")], {}) == "Hello"`
    """
    return render(template, [asdict(message) for message in messages], special_tokens)


def share(prompts: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return what token lists have in common at their start, and the rest of each.

    Example: `share([[1, 2, 3], [1, 2, 4]]) == ((1, 2), [(3,), (4,)])`
    """
    first, shortest = prompts[0], min(map(len, prompts))
    if all(prompt == first for prompt in prompts):
        return tuple(first), [()] * len(prompts)
    common = 0
    while common < shortest - 1 and all(p[common] == first[common] for p in prompts):
        common += 1
    return tuple(first[:common]), [tuple(prompt[common:]) for prompt in prompts]


def _absent_from(texts: Iterable[str]) -> Callable[[str], bool]:
    known = frozenset[str]().union(*texts)
    return lambda character: character not in known


def _guarded(text: str, control: tuple[str, ...], cut: str) -> str:
    """Put a cut within each special token that a text spells, and within what is then left."""
    if not control:
        return text
    pattern = _any_of(control)
    parts = text.split(cut)
    while any(map(pattern.search, parts)):
        text = cut.join(pattern.sub(lambda m: f"{m[0][:1]}{cut}{m[0][1:]}", p) for p in parts)
        parts = text.split(cut)
    return text


@lru_cache(maxsize=16)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    longer = sorted({text for text in texts if len(text) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longer)) or r"(?!)")


def _sentences(template: str) -> list[str]:
    return re.findall(r"[^\n]*?(?:[.!?]+(?=\s)[^\S\n]*|\n|$)", template)


def _names(part: str) -> list[str]:
    return [match[1] for match in _VARIABLE.finditer(part) if match[1]]


def _ends_sentence(match: re.Match[str]) -> bool:
    return match.string[match.end() : match.end() + 1] == "."
