"""LangChain's synthetic-data generators and chains, by their names, over this package's own.

Knows call shapes; rows, texts and records come from `tabular.py`, `text.py` and `extract.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate, PromptTemplate
from pydantic import BaseModel

from ..errors import UsageError
from ..generators.tabular import TabularGenerator
from ..generators.text import TEMPERATURE
from ..local_model import LocalModel
from ..schema import RowSchema
from .prompts import few_shot_prompt, with_extra
from .settings import LocalSettings

Llm: TypeAlias = LocalSettings | LocalModel


class SyntheticDataGenerator:
    """Rows of a schema from a template of LangChain's.

    `results` holds the rows of all calls so far, `seeds` the seed of each call. Made by
    `create_data_generator`.
    """

    def __init__(
        self,
        template: BasePromptTemplate[Any] | str,
        llm: Llm,
        schema: RowSchema,
        output_parser: BaseOutputParser[Any] | None = None,
    ) -> None:
        self.template = template
        self.llm = llm
        self.results: list[Any] = []
        self.seeds: list[int] = []
        self._schema = schema
        self._parser = output_parser
        self._calls = 0

    def generate(
        self, subject: str, runs: int, extra: str = "", *, seed: int | None = None, **variables: Any
    ) -> list[Any]:
        """Return `runs` new instances in row order.

        `extra` and other `variables` fill the template; one that it does not name is an error,
        except `extra`, which is then a sentence at its end.
        Each call draws other rows than the one before it, with a seed in the model the same in the
        next program; with `seed`, the same at every call. `seeds` has what was taken.

        Example: `generator.generate(subject="medical_billing", extra="", runs=10)`
        """
        seed = self._seed(seed)
        return self._taken(
            self._generator(subject, extra, variables).generate(rows=runs, seed=seed)
        )

    async def agenerate(
        self, subject: str, runs: int, extra: str = "", *, seed: int | None = None, **variables: Any
    ) -> list[Any]:
        """Do as `generate` does, in a thread of its own; cancelling it stops the run."""
        seed = self._seed(seed)
        generator = await asyncio.to_thread(self._generator, subject, extra, variables)
        return self._taken(await generator.agenerate(rows=runs, seed=seed))

    def _seed(self, chosen: int | None) -> int:
        settings = settings_of(self.llm)
        if chosen is None:
            chosen = (
                settings.seed_of_call() if settings.seed is None else settings.seed + self._calls
            )
        self._calls += 1
        self.seeds.append(chosen)
        return chosen

    def _taken(self, rows: Sequence[Any]) -> list[Any]:
        parser = self._parser
        taken = [row if parser is None else parser.parse(self._text(row)) for row in rows]
        self.results += taken
        return taken

    def _generator(
        self, subject: str, extra: str, variables: Mapping[str, Any]
    ) -> TabularGenerator:
        settings = settings_of(self.llm)
        named = _variables(self.template)
        _check_variables(named, variables)
        prompt = few_shot_prompt(self.template, {"subject": subject, "extra": extra, **variables})
        if extra and "extra" not in named:
            prompt = with_extra(prompt, extra)
        return TabularGenerator(
            self._schema,
            settings.local,
            prompt=prompt,
            temperature=settings.temperature,
            batch=settings.batch_size,
        )

    def _text(self, row: Any) -> str:
        from ..schema.grammar.json_text import write_value

        return write_value(self._schema.dump(row))


def create_data_generator(
    output_schema: type[BaseModel] | dict[str, Any],
    llm: Llm,
    prompt: BasePromptTemplate[Any] | str,
    output_parser: BaseOutputParser[Any] | None = None,
) -> SyntheticDataGenerator:
    """Return a generator of rows of `output_schema`.

    `prompt` is a FewShotPromptTemplate or a PromptTemplate; a sentence that names a variable
    without a value is left out. Raises SchemaError for a schema that cannot be used, UsageError
    for a model that does not run here.

    Example: `create_data_generator(output_schema=MedicalBilling, llm=ChatLocal(), prompt=prompt)`
    """
    settings_of(llm)
    return SyntheticDataGenerator(prompt, llm, RowSchema.of(output_schema), output_parser)


create_openai_data_generator = create_data_generator


def settings_of(llm: Any) -> LocalSettings:
    """Return the settings of a model; a LocalModel draws from seed 0, as its own generators do.

    Raises UsageError for a model that does not run here.

    Example: `settings_of(ChatLocal(temperature=0)).temperature == 0`
    """
    if isinstance(llm, LocalSettings):
        return llm
    if isinstance(llm, LocalModel):
        return LocalSettings(local_model=llm, temperature=TEMPERATURE, seed=0)
    raise UsageError(
        f"{type(llm).__name__} does not run on this engine.",
        hint="Use ChatLocal or LocalLLM of synthgen_local.langchain.",
    )


def _variables(template: BasePromptTemplate[Any] | str) -> set[str]:
    """The variables that a template names."""
    if isinstance(template, str):
        return set(PromptTemplate.from_template(template).input_variables)
    return {*template.input_variables, *template.partial_variables}


def _check_variables(named: set[str], variables: Mapping[str, Any]) -> None:
    """Refuse variables that a template does not name: nothing would come of them."""
    if unused := sorted(variables.keys() - named):
        raise UsageError(
            f"The template does not name {', '.join(unused)}.",
            hint="Settings such as temperature are the model's: give them to ChatLocal.",
        )
