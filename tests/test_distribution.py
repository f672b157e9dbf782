"""What distribution rows follow: a model whose every probability is known says so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher

from synthgen_local import LocalModel, TabularGenerator, UsageError
from synthgen_local.engine.backends.protocol import ContextSize, Logits, Step
from synthgen_local.engine.backends.random_model import RandomContext, RandomModel
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.decoder import Decoder
from synthgen_local.engine.requests import Completion, GenerationRequest, LogWeightPolicy, RowQueue
from synthgen_local.generators.tabular import Sampling

SCHEMA = {"enum": ["ax", "bx", "by", "byy"]}
FIRST = {"a": 0.5, "b": 0.3, "c": 0.2}
AFTER = {"a": {"x": 0.02, "y": 0.98}, "b": {"x": 0.25, "y": 0.75}, "y": {'"': 0.6, "y": 0.4}}
OWN = {"ax": 0.5 * 0.02, "bx": 0.3 * 0.25, "by": 0.3 * 0.75 * 0.6, "byy": 0.3 * 0.75 * 0.4 * 0.6}
ROWS = 2000


class KnownContext(RandomContext):
    """Looks at the last character of a row."""

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """What follows the prompt's last character."""
        return self._after(tokens)

    def decode(self, steps: Sequence[Step]) -> Logits:
        """What follows each step's last character."""
        return np.stack([self._after(step.tokens) for step in steps])

    def _follow(self, last: str) -> Mapping[str, float]:
        return FIRST if last == '"' else AFTER.get(last, {'"': 1.0})

    def _after(self, tokens: Sequence[int]) -> Logits:
        logits = np.full(self._vocabulary, -60, dtype=np.float32)
        for character, probability in self._follow(chr(tokens[-1])).items():
            logits[ord(character)] = math.log(probability)
        return logits


class RefusedContext(KnownContext):
    """In a string it would go on with a line break, which no string has, more often than not."""

    def __init__(self) -> None:
        super().__init__(ContextSize(1, 99, 1), KnownModel().tokenizer.vocab_size, salt=0)
        self.unmasked = 0  # draws that asked for no mask
        self.read = ""  # by all rows, one after the other

    def decode(self, steps: Sequence[Step]) -> Logits:
        """What follows each step's last character."""
        self.unmasked += sum(step.mask is None for step in steps)
        self.read += "".join(chr(token) for step in steps for token in step.tokens)
        return super().decode(steps)

    def _follow(self, last: str) -> Mapping[str, float]:  # noqa: ARG002
        return {"\n": 0.6, "a": 0.3, '"': 0.1}


class KnownModel(RandomModel):
    """A model of characters with the probabilities above."""

    def open_context(self, size: ContextSize) -> Any:
        """A context of this model."""
        return KnownContext(size, self.tokenizer.vocab_size, salt=0)


@pytest.fixture(scope="module")
def known() -> LocalModel:
    return LocalModel(KnownModel(), threads=2)


def drawn(known: LocalModel, sampling: Sampling) -> list[tuple[str, float]]:
    generator = TabularGenerator(SCHEMA, known, sampling=sampling)
    rows = generator.rows(rows=ROWS, seed=5)
    return [(row.value, math.nan if row.log_weight is None else row.log_weight) for row in rows]


def own() -> dict[str, float]:
    return {value: mass / sum(OWN.values()) for value, mass in OWN.items()}


def chi_square(counts: Counter[str], expected: dict[str, float]) -> float:
    return sum((counts[v] - ROWS * p) ** 2 / (ROWS * p) for v, p in expected.items())


LIMIT = 16.27  # of chi-square with 3 degrees of freedom, passed once in a thousand


def test_exact_rows_follow_the_models_own_distribution(known: LocalModel) -> None:
    """Rejection leaves the model's odds among valid rows as they are."""
    counts = Counter(value for value, _ in drawn(known, "exact"))

    assert chi_square(counts, own()) < LIMIT


def test_fast_rows_are_biased_where_they_should_be(known: LocalModel) -> None:
    """Masks alone give what the model would hardly go on with the weight of its beginning."""
    counts = Counter(value for value, _ in drawn(known, "fast"))
    masked = {"ax": 0.5 / 0.8, "bx": 0.3 / 0.8 * 0.25}
    masked |= {"by": 0.3 / 0.8 * 0.75 * 0.6, "byy": 0.3 / 0.8 * 0.75 * 0.4}

    assert chi_square(counts, masked) < LIMIT
    assert chi_square(counts, own()) > 100 * LIMIT


def test_weights_make_up_for_the_bias(known: LocalModel) -> None:
    """Rows weighed by exp(log_weight) have the model's own shares."""
    weights: Counter[str] = Counter()
    for value, log_weight in drawn(known, "weighted"):
        weights[value] += math.exp(log_weight)
    total = sum(weights.values())

    for value, share in own().items():
        assert weights[value] / total == pytest.approx(share, abs=0.03)


def test_each_token_counts_in_the_weight(known: LocalModel) -> None:
    """A weight is the mass that the mask left at every token, forced ones too."""
    found = dict(drawn(known, "weighted"))

    assert found["ax"] == pytest.approx(math.log(0.8 * 0.02), abs=1e-4)
    assert found["by"] == pytest.approx(math.log(0.8), abs=1e-4)


def strings(
    context: RefusedContext, log_weights: LogWeightPolicy, temperature: float = 1.0
) -> list[Completion]:
    """Strings of at most 3 letters."""
    grammar = Grammar(
        KnownModel().tokenizer, LLMatcher.grammar_from_lark(r'start: /"[^"\\\n]{0,3}"/')
    )
    job = GenerationRequest.from_grammar(
        grammar, (1,), 9, seed=3, temperature=temperature, log_weights=log_weights
    )
    return list(Decoder(context, job).run(RowQueue(range(ROWS))))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_guess_that_is_refused_leaves_the_odds_of_the_others(temperature: float) -> None:
    """Tokens are drawn before the mask is known, and come as often as if it had been."""
    rows = strings(context := RefusedContext(), LogWeightPolicy.NONE, temperature)
    more = 0.3 ** (1 / temperature) / (0.3 ** (1 / temperature) + 0.1 ** (1 / temperature))

    expected = {'"' + "a" * n + '"': more**n * (1 - more) for n in range(3)} | {'"aaa"': more**3}
    assert chi_square(Counter(row.text for row in rows), expected) < LIMIT
    assert context.unmasked > ROWS
    assert context.read == "".join(row.text[1:-1][:2] for row in rows)  # no end of a row is read


def test_a_row_that_is_weighed_does_not_guess() -> None:
    """What its masks left counts at every draw."""
    for row in strings(RefusedContext(), LogWeightPolicy.ALL):
        assert row.log_weight == pytest.approx(row.sampled_tokens * math.log(0.4), abs=1e-5)


def test_exact_rows_are_the_same_again(known: LocalModel) -> None:
    """The coin of rejection comes from the seed as well."""
    assert drawn(known, "exact") == drawn(known, "exact")


def test_no_other_sampling(known: LocalModel) -> None:
    """What is no way to sample is refused."""
    with pytest.raises(UsageError, match="Sampling"):
        TabularGenerator(SCHEMA, known, sampling="lucky")  # type: ignore[arg-type]
