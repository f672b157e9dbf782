"""Records in the text that a model wrote: format instructions, and JSON read back.

Knows schemas and text, not models. What `parse` cannot read is an error, never a guess.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from ..errors import OutputError
from ..schema import RowSchema

INSTRUCTIONS = "Answer with one JSON object and nothing else. It must satisfy this JSON Schema:"
_FENCE = re.compile(r"```(?:json)?\s*(?=\{)")


class RecordParser:
    """Reads one record of a schema out of a model's answer.

    Example: `RecordParser(Actor).parse('```json {"Actor": "Tom Hanks", "Film": []} ```')`
    """

    def __init__(self, schema: RowSchema | type[BaseModel] | dict[str, Any] | str) -> None:
        self.schema = RowSchema.of(schema)

    def get_format_instructions(self) -> str:
        """Return what a prompt has to say so that the answer can be parsed.

        Example: `prompt = f"Who is it? {parser.get_format_instructions()} {text}"`
        """
        schema = json.dumps(self.schema.json_schema, ensure_ascii=False)
        return f"{INSTRUCTIONS}\n```\n{schema}\n```"

    def parse(self, text: str) -> Any:
        """Return the instance that an answer holds; words around its JSON are passed over.

        Raises OutputError if there is no JSON object in it or the schema refuses it.

        Example: `parser.parse('{"Actor": "Tom Hanks", "Film": []}').Actor == "Tom Hanks"`
        """
        reason = "there is no JSON object in it"
        for candidate in _objects(text):
            try:
                return self.schema.parse(candidate)
            except ValueError as error:
                reason = str(error)
        raise OutputError(
            f"The answer is not a {self.schema.name}: {reason}.", hint="Ask the model again."
        )


def schema_in(prompt: str) -> tuple[dict[str, Any], str] | None:
    """Return the JSON Schema of format instructions in a prompt, and the prompt without them.

    None if there are none. LangChain's own instructions are understood as well as ours.

    Example: `schema_in(f"Who? {parser.get_format_instructions()}")[1] == "Who? "`
    """
    for match in reversed(list(_FENCE.finditer(prompt))):
        try:
            schema, end = json.JSONDecoder().raw_decode(prompt, match.end())
        except (ValueError, RecursionError):
            continue
        if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
            continue
        start = max(prompt.rfind(opening, 0, match.start()) for opening in _OPENINGS)
        closing = re.compile(r"\s*```").match(prompt, end)
        if start >= 0 and closing is not None:
            return {"type": "object", **schema}, prompt[:start] + prompt[closing.end() :]
    return None


_OPENINGS = (INSTRUCTIONS, "The output should be formatted as a JSON instance")


def _objects(text: str) -> list[str]:
    """The JSON objects of a text, the outermost ones, in order."""
    decoder, found, position = json.JSONDecoder(), list[str](), 0
    while (start := text.find("{", position)) >= 0:
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            found.append(text[start:position])
    return found
