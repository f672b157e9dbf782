"""Prompts: variables, sentences that name none, and chat templates in a sandbox."""

from __future__ import annotations

import pytest

from synthgen_local import FewShotPrompt, PromptError
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.prompting.prompts import (
    Message,
    Prompt,
    chat,
    conversation,
    few_shot,
    fill,
    share,
)

HELLO = [Message("user", "hello")]

LANGCHAIN_SHAPE = "Rows about {subject}. Some examples:"


@pytest.mark.parametrize(
    ("template", "subject", "extra", "expected"),
    [
        ("About {subject}. Be {extra}.", "cats", "kind", "About cats. Be kind."),
        ("About {subject}. Be {extra}.", "cats", "", "About cats."),
        ("About {subject}. Be {extra}.", "", "", ""),
        (LANGCHAIN_SHAPE, "", "", "Some examples:"),
        ("See to this: {extra}.", "", "be kind.", "See to this: be kind."),
        ("A {{brace}} about v1.5 of {subject}", "x", "", "A {brace} about v1.5 of x"),
        ("First {subject}\nSecond {extra}\nThird", "a", "", "First a\nThird"),
    ],
)
def test_fill(template: str, subject: str, extra: str, expected: str) -> None:
    """A sentence that names a variable that is not given is left out, and no other."""
    assert fill(template, {"subject": subject, "extra": extra}) == expected


@pytest.mark.parametrize("template", ["{topic}", "a { b", "}"])
def test_fill_refuses_what_it_cannot_fill(template: str) -> None:
    """An unknown variable and a lone brace are errors with a hint."""
    with pytest.raises(PromptError) as caught:
        fill(template, {"subject": "x", "extra": "y"})

    assert caught.value.hint


def test_values_are_not_templates() -> None:
    """Braces in a value stay as they are."""
    assert fill("{subject}", {"subject": "{extra}", "extra": "x"}) == "{extra}"


def test_render_puts_examples_between_prefix_and_suffix() -> None:
    """Prefix, described fields, one example a line, suffix."""
    prompt = FewShotPrompt(prefix="P {subject}", suffix="S {extra}")

    assert prompt.render(["1", "2"], subject="a", extra="b", fields=[("city", "a town")]) == (
        "P a\nFields:\n- city: a town\n1\n2\nS b"
    )


def test_chat_renders_one_user_message() -> None:
    """The template gets the message, the special tokens and the wish for an answer."""
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}"

    assert chat(template, HELLO, {"bos_token": "<s>"}) == "<s>[user]hello"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{% for %}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
    ],
)
def test_chat_templates_run_in_a_sandbox(template: str) -> None:
    """A template out of a model file can neither reach Python nor break the program."""
    with pytest.raises(PromptError):
        chat(template, HELLO, {})


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (HELLO, "hello\n"),
        (
            [Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
            "a\nb\n\nc\n",
        ),
        ([Message("system", "be kind"), *HELLO], "be kind\nhello\n"),
    ],
)
def test_conversation_without_a_template(messages: list[Message], expected: str) -> None:
    """A base model gets a line for each message, and an empty one after each answer."""
    assert conversation(None, messages, {}) == expected


def test_conversation_with_a_template() -> None:
    """A chat model gets its own template, with all messages and the wish for an answer."""
    template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]

    assert conversation(template, messages, {"eos_token": "/"}) == (
        "[user]a/[assistant]b/[user]c/[assistant]"
    )


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([[1, 2, 3], [1, 2, 4]], ((1, 2), [(3,), (4,)])),
        ([[1, 2, 3]], ((1, 2, 3), [()])),
        ([[1, 2], [1, 2]], ((1, 2), [(), ()])),
        ([[1], [2]], ((), [(1,), (2,)])),
        ([[1, 2], [1, 2, 3]], ((1,), [(2,), (2, 3)])),
        ([[1, 2, 3], [1, 9, 3], [1, 2, 3]], ((1,), [(2, 3), (9, 3), (2, 3)])),
    ],
)
def test_share(
    prompts: list[list[int]], expected: tuple[tuple[int, ...], list[tuple[int, ...]]]
) -> None:
    """What all begin with comes apart; where prompts differ, each keeps a token at least."""
    assert share(prompts) == expected


def test_few_shot_says_the_task_first_and_asks_last() -> None:
    """The task stands before the first question, each answer after its own, the question last."""
    assert few_shot("Add.", [("1+1", "2")], "2+2") == [
        Message("system", "Add."),
        Message("user", "1+1"),
        Message("assistant", "2"),
        Message("user", "2+2"),
    ]
    assert few_shot("Add.", [], "2+2") == [Message("system", "Add."), Message("user", "2+2")]


@pytest.mark.parametrize(
    "system",
    ["{{ raise_exception('no system') }}", "", "{{ nothing.at.all }}"],
    ids=["refused", "dropped", "broken"],
)
def test_a_template_without_a_system(system: str) -> None:
    """Where the template has no place for the system's message, the user says it."""
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}" + system + "{% else %}"
        "[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
    )
    messages = [Message("system", "Add."), Message("user", "1+1")]

    assert conversation(template, messages, {}) == "[user]Add.\n\n1+1"


TEMPLATE = "{% for m in messages %}<|go|>{{ m.content }}<|stop|>{% endfor %}"


class Spelling(RandomModel):
    """A model with control tokens, that shows what it was given to tokenize."""

    def __init__(self, template: str | None = TEMPLATE) -> None:
        super().__init__()
        self.chat_template = template  # type: ignore[assignment] # a base model has none
        self.control_tokens = ("<|go|>", "<|stop|>", "<s>", "s><s")
        self.given: list[tuple[str, bool]] = []

    def tokenize(self, text: str, *, begun: bool = False) -> list[int]:
        """Bytes, after the text has been noted down."""
        self.given.append((text, begun))
        return super().tokenize(text)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<|stop|>", ""),
        ("a<|go|><|stop|>b", "<|stop|>{}\n"),
        ("<s><s><s>", "s><s"),
        ("\ufdd0<|stop|>\ufdd1", ""),
        ("<<|stop|>|stop|>", ""),
        (" <|stop|> ", ""),
    ],
)
@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_users_spell_no_special_token(said: str, answer: str, template: str | None) -> None:
    """What a message or an example spells is text; the template's own special tokens stay."""
    engine = Spelling(template)
    prompt = Prompt.of(engine, [Message("user", said)], answer)
    tokens = prompt.tokens(engine)

    assert bytes(tokens).decode() == prompt.text
    assert prompt.text == conversation(template, [Message("user", said)], {}) + answer
    rest = "".join(f"{text}|" for text, _ in engine.given)
    if template:
        assert engine.given[0][0].startswith("<|go|>")
        rest = rest.replace("<|go|>", "", 1)
        assert rest.count("<|stop|>") == 1
        rest = rest.replace("<|stop|>", "")
    assert not any(token in rest for token in engine.control_tokens)
    assert [begun for _, begun in engine.given] == [False] + [True] * (len(engine.given) - 1)


def test_a_usual_prompt_is_tokenized_as_a_whole() -> None:
    """Where nobody spells a special token nothing changes."""
    engine = Spelling()
    prompt = Prompt.of(engine, [Message("user", "a < b |> c")], "x")

    assert len(prompt.parts) == 1
    assert engine.tokenize(prompt.text) == prompt.tokens(engine)


def test_an_extra_that_is_not_named() -> None:
    """What prefix and suffix do not name is a sentence at the end, not dropped."""
    prompt = FewShotPrompt(prefix="About {subject}.", suffix="Go.")

    assert prompt.render(["1"], subject="cats", extra="be kind") == (
        "About cats.\n1\nGo.\nMake sure of this: be kind."
    )
    assert prompt.render(["1"], subject="cats") == "About cats.\n1\nGo."
