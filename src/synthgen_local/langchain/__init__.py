"""LangChain's names for what this package does, on a model of this machine.

The names and call shapes are those of LangChain's notebook on synthetic data, whose own
generators are retired (langchain-experimental 0.4): a program that used them changes its imports
and its `llm=`. What they got wrong is not repeated: the caller's template is left as it is, the
user's examples stay in the prompt, each call returns rows of its own, in order, and `extra` may
be absent.

Needs the extra `langchain`.
"""

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise ImportError(
        "synthgen_local.langchain needs langchain-core: pip install 'synthgen-local[langchain]'"
    ) from error

from .chains import (
    DatasetGenerator,
    ExtractionChain,
    TextChain,
    create_data_generation_chain,
    create_extraction_chain,
    create_extraction_chain_pydantic,
)
from .data_generators import (
    SyntheticDataGenerator,
    create_data_generator,
    create_openai_data_generator,
)
from .models import ChatLocal, LocalLLM, create_structured_output_runnable
from .prompts import (
    OPENAI_TEMPLATE,
    SYNTHETIC_FEW_SHOT_PREFIX,
    SYNTHETIC_FEW_SHOT_SUFFIX,
    PydanticOutputParser,
)

__all__ = [
    "OPENAI_TEMPLATE",
    "SYNTHETIC_FEW_SHOT_PREFIX",
    "SYNTHETIC_FEW_SHOT_SUFFIX",
    "ChatLocal",
    "DatasetGenerator",
    "ExtractionChain",
    "LocalLLM",
    "PydanticOutputParser",
    "SyntheticDataGenerator",
    "TextChain",
    "create_data_generation_chain",
    "create_data_generator",
    "create_extraction_chain",
    "create_extraction_chain_pydantic",
    "create_openai_data_generator",
    "create_structured_output_runnable",
]
