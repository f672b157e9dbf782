"""LangChain's prompt templates read as few-shot prompts, and its parser.

Knows text, not models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import PydanticOutputParser as _PydanticOutputParser
from langchain_core.prompts import BasePromptTemplate, FewShotPromptTemplate, PromptTemplate
from langchain_core.prompts.string import DEFAULT_FORMATTER_MAPPING
from pydantic import BaseModel

from ..errors import PromptError
from ..prompting.prompts import PREFIX, SUFFIX, FewShotPrompt, fill

Instance = TypeVar("Instance", bound=BaseModel)

OPENAI_TEMPLATE = PromptTemplate(input_variables=["example"], template="{example}")
"""An example as it stands."""

SYNTHETIC_FEW_SHOT_PREFIX = PREFIX
SYNTHETIC_FEW_SHOT_SUFFIX = SUFFIX


class PydanticOutputParser(_PydanticOutputParser[Instance], Generic[Instance]):
    """LangChain's parser, which also takes a message where it expects text.

    Example: `PydanticOutputParser(pydantic_object=Actor).parse(llm.invoke(prompt))`
    """

    def parse(self, text: str | BaseMessage) -> Instance:
        """Return the instance that an answer holds."""
        return super().parse(str(text.content) if isinstance(text, BaseMessage) else text)


def few_shot_prompt(
    prompt: BasePromptTemplate[Any] | str, variables: Mapping[str, Any]
) -> FewShotPrompt:
    """Read a template of LangChain's; a sentence that names an empty variable is left out.

    Examples keep the text that their template gives them. The template is not changed.
    Raises PromptError for a variable without a value and for another kind of template.

    Example: `few_shot_prompt(template, {"subject": "medical_billing", "extra": ""}).prefix`
    """
    if isinstance(prompt, str):
        return FewShotPrompt(prefix=_filled(prompt, "f-string", variables), suffix="")
    if isinstance(prompt, PromptTemplate):
        known = _known(prompt, variables)
        return FewShotPrompt(
            prefix=_filled(prompt.template, prompt.template_format, known), suffix=""
        )
    if not isinstance(prompt, FewShotPromptTemplate):
        raise PromptError(
            f"{type(prompt).__name__} is not a prompt for rows.",
            hint="Use FewShotPromptTemplate or PromptTemplate.",
        )
    known = _known(prompt, variables)
    examples = prompt.examples
    if examples is None and prompt.example_selector is not None:
        examples = prompt.example_selector.select_examples(dict(known))
    wanted = prompt.example_prompt.input_variables
    return FewShotPrompt(
        examples=[
            prompt.example_prompt.format(**{key: example[key] for key in wanted})
            for example in examples or []
        ],
        prefix=_filled(prompt.prefix, prompt.template_format, known),
        suffix=_filled(prompt.suffix, prompt.template_format, known),
    )


def with_extra(prompt: FewShotPrompt, extra: str) -> FewShotPrompt:
    """Return a prompt that ends with the sentence that asks for `extra`.

    Example: `with_extra(FewShotPrompt(suffix=""), "short names").suffix`
    """
    sentence = _filled(SUFFIX, "f-string", {"extra": extra})
    return replace(prompt, suffix="\n".join(filter(None, (prompt.suffix, sentence))))


def _known(prompt: BasePromptTemplate[Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    partial = {
        key: value() if callable(value) else value
        for key, value in prompt.partial_variables.items()
    }
    known = {**partial, **variables}
    for name in prompt.input_variables:
        if name not in known:  # Jinja would leave a blank, without a word
            raise PromptError(f"The prompt names {{{name}}}.", hint=f"Say what it is: {name}=...")
    return known


def _filled(template: str, kind: str, variables: Mapping[str, Any]) -> str:
    """A template with its variables, as text for a prompt that has none left."""
    if kind == "f-string":
        text = fill(
            template, {key: "" if value is None else str(value) for key, value in variables.items()}
        )
    else:
        text = DEFAULT_FORMATTER_MAPPING[kind](template, **variables)
    return text.replace("{", "{{").replace("}", "}}")
