"""The generator: rows on random logits and on real weights."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from medical_billing import EXAMPLES, MedicalBilling
from pydantic import BaseModel
from validated import Even, Never

from synthgen_local import (
    Bounds,
    DecodingError,
    FewShotPrompt,
    LocalModel,
    PromptError,
    Row,
    SynthgenError,
    TabularGenerator,
    TooFewRowsError,
    UsageError,
)
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.prefix import Prefix
from synthgen_local.engine.requests import GenerationRequest

ASK: dict[str, Any] = {"subject": "medical_billing", "extra": "the name must be chosen at random"}


def billing(model: LocalModel, **options: Any) -> TabularGenerator:
    return TabularGenerator(
        MedicalBilling, model, prompt=FewShotPrompt(examples=EXAMPLES), **options
    )


def test_rows_are_instances(random_model: LocalModel) -> None:
    """`generate` returns as many instances of the model as asked for."""
    rows = billing(random_model).generate(**ASK, rows=20)

    assert len(rows) == 20
    assert all(isinstance(row, MedicalBilling) for row in rows)


def test_rows_of_a_json_schema_are_dicts(random_model: LocalModel) -> None:
    """A JSON Schema gives dicts."""
    schema = {"properties": {"a": {"type": "boolean"}}, "required": ["a"]}

    assert {type(row["a"]) for row in TabularGenerator(schema, random_model).generate(rows=5)} == {
        bool
    }


def test_no_rows(random_model: LocalModel) -> None:
    """No rows are no error; fewer than none are."""
    assert billing(random_model).generate(rows=0) == []
    with pytest.raises(SynthgenError):
        billing(random_model).generate(rows=-1)


def test_a_stream_gives_the_rows_of_generate(random_model: LocalModel) -> None:
    """`stream` yields the same rows in the same order."""
    generator = billing(random_model)

    assert list(generator.stream(**ASK, rows=12)) == generator.generate(**ASK, rows=12)


def test_a_stream_may_be_left(random_model: LocalModel) -> None:
    """Leaving a stream early ends its threads."""
    before = threading.active_count()
    stream = billing(random_model).stream(**ASK, rows=10**6)
    next(stream)
    stream.close()

    assert threading.active_count() == before


def test_closing_the_model_waits_for_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not freed while another thread evaluates a prompt with them."""
    model = LocalModel(RandomModel())
    generator = TabularGenerator("name", model)
    reading, order = threading.Event(), []

    def slow(_cls: type[Prefix], engine: Any, job: GenerationRequest, *, threads: int) -> Prefix:
        reading.set()
        time.sleep(0.3)
        order.append("read")
        return evaluate(engine, job, threads=threads)

    evaluate = Prefix.prefill
    monkeypatch.setattr(Prefix, "prefill", classmethod(slow))
    monkeypatch.setattr(model.engine, "close", lambda: order.append("freed"))

    def run() -> None:
        with suppress(DecodingError):
            generator.generate("x", 5)

    running = threading.Thread(target=run)
    running.start()
    assert reading.wait(10)
    model.close()
    running.join()

    assert order == ["read", "freed"]


def test_closing_the_model_stops_its_runs() -> None:
    """Weights in use are not freed: a run that still goes is stopped first."""
    before = threading.active_count()
    with LocalModel.load("random", threads=2) as model:
        stream = billing(model).stream(rows=10**6)
        next(stream)

    assert threading.active_count() == before
    with pytest.raises(DecodingError, match="was closed"):
        list(stream)


def test_agenerate_does_not_block_the_loop(random_model: LocalModel) -> None:
    """`agenerate` gives the same rows while other coroutines go on, and takes keywords."""
    generator = billing(random_model)
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def both() -> list[Any]:
        ticking = asyncio.create_task(tick())
        rows = await generator.agenerate(**ASK, rows=30, seed=3)
        ticking.cancel()
        return rows

    assert asyncio.run(both()) == generator.generate(**ASK, rows=30, seed=3)
    assert len(ticks) > 5


def test_agenerate_can_be_cancelled(random_model: LocalModel) -> None:
    """Cancelling the coroutine ends the run."""

    async def cancelled() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(billing(random_model).agenerate(rows=10**6), 0.5)

    asyncio.run(asyncio.wait_for(cancelled(), 30))


def test_seeds(random_model: LocalModel) -> None:
    """The same seed gives the same rows, another seed others."""
    generator = billing(random_model)

    assert generator.generate(rows=8, seed=1) == generator.generate(rows=8, seed=1)
    assert generator.generate(rows=8, seed=1) != generator.generate(rows=8, seed=2)


def test_validators_are_enforced_by_drawing_anew(random_model: LocalModel) -> None:
    """A row that a validator refuses is drawn anew, counted, and never dropped."""
    rows = list(TabularGenerator(Even, random_model).rows(rows=30))

    assert all(row.value.number % 2 == 0 for row in rows)
    assert [row.number for row in rows] == list(range(30))
    assert {str(reason) for row in rows for reason in row.rejections} == {
        "number: is_even says: Value error, must be even"
    }


def test_too_few_rows(random_model: LocalModel) -> None:
    """A row that no attempt satisfies is given up, and the error says why; nothing is silent."""
    with pytest.raises(TooFewRowsError, match=r"0 of 2 rows: .* never right") as caught:
        TabularGenerator(Never, random_model).generate(rows=2)

    assert caught.value.exit_code == 4
    assert caught.value.rows == []


def test_examples_stand_in_the_prompt_as_rows_are_written(random_model: LocalModel) -> None:
    """A text example becomes JSON in the grammar's own writing."""
    prompt = billing(random_model, layout="json").prompt_text(**ASK)

    assert '{"patient_id":123456,"patient_name":"John Doe","diagnosis_code":"J20.9",' in prompt
    assert "Synthetic data about medical_billing." in prompt
    assert "the name must be chosen at random." in prompt


def test_the_callers_examples_are_not_changed(random_model: LocalModel) -> None:
    """Rows that were made do not push the user's examples out of the prompt."""
    generator = billing(random_model)
    before = generator.prompt_text(**ASK)
    generator.generate(**ASK, rows=8)

    assert generator.prompt_text(**ASK) == before


def test_descriptions_stand_in_the_prompt(random_model: LocalModel) -> None:
    """What a field is said to be reaches the model."""
    generator = TabularGenerator("name, city: a town in Peru", random_model)

    assert "- city: a town in Peru" in generator.prompt_text()


def test_examples_bound_free_strings(random_model: LocalModel) -> None:
    """A string without a limit may be four times as long as the examples', at least 32."""
    fitted = billing(random_model).grammar.certificate
    free = TabularGenerator(MedicalBilling, random_model).grammar.certificate
    chosen = billing(random_model, bounds=Bounds(max_length=7)).grammar.certificate

    def lengths(certificate: Any) -> dict[str, int]:
        return {c.path[2:]: c.value for c in certificate.bounds if c.keyword == "maxLength"}

    names = {"patient_name", "diagnosis_code", "procedure_code"}
    assert lengths(fitted) == {"patient_name": 52, "diagnosis_code": 32, "procedure_code": 32}
    assert lengths(free) == dict.fromkeys(names, 200)
    assert lengths(chosen) == dict.fromkeys(names, 7)


def test_free_strings_shrink_until_a_row_fits() -> None:
    """Limits that nobody set give way to the model's context, and the certificate shows them."""

    class Long(BaseModel):
        many: list[str]

    engine = RandomModel()
    engine.context_length = 2048
    with LocalModel(engine) as model:
        generator = TabularGenerator(Long, model)
        assert len(generator.generate(rows=3)) == 3
        with pytest.raises(DecodingError, match="a row may have"):
            TabularGenerator(Long, model, bounds=Bounds()).generate(rows=1)

    lengths = [c.value for c in generator.grammar.certificate.bounds if c.keyword == "maxLength"]
    assert lengths == [25]


def test_nonsense_is_refused(random_model: LocalModel) -> None:
    """A temperature below 0, an empty batch and a wrong example are errors at once."""
    for options in ({"temperature": -1}, {"batch": 0}):
        with pytest.raises(SynthgenError):
            billing(random_model, **options)
    with pytest.raises(PromptError, match="Example 1"):
        TabularGenerator(Even, random_model, prompt=FewShotPrompt(examples=[{"number": 3}]))


@pytest.mark.model
def test_real_rows(model: LocalModel) -> None:
    """The default model writes valid rows, the same for the same seed, that are not all alike."""
    generator = billing(model)
    rows = list(generator.rows(**ASK, rows=16, seed=5))
    again = generator.generate(**ASK, rows=16, seed=5)

    assert [row.value for row in rows] == again
    assert len({row.value.patient_name for row in rows}) > 4
    assert all(isinstance(row, Row) and not row.rejections for row in rows)


@pytest.mark.model
def test_the_grammar_leaves_the_model_its_mass(model: LocalModel) -> None:
    """Examples in the grammar's own writing keep the allowed probability near 1 a token."""
    rows = list(billing(model, layout="json").rows(**ASK, rows=16, seed=5))
    drawn = sum(row.sampled_tokens for row in rows)

    assert math.exp(sum(row.log_weight or 0.0 for row in rows) / drawn) > 0.9
    assert drawn < 0.75 * sum(row.tokens for row in rows)


@pytest.mark.model
def test_greedy_rows_are_alike(model: LocalModel) -> None:
    """At temperature 0 every row is the likeliest one."""
    rows = billing(model, temperature=0).generate(**ASK, rows=3)

    assert rows[0] == rows[1] == rows[2]


def test_rows_say_which_checks_turned_them_down(random_model: LocalModel) -> None:
    """Redraws, and each check's share of the tries, are with the rows."""
    rows = TabularGenerator(Even, random_model).generate(n=20)

    assert len(rows) == 20
    (times,) = rows.redraws.values()
    assert rows.turned_down == dict.fromkeys(rows.redraws, times / (20 + times))
    assert rows[:3].redraws == {}


def test_examples_need_no_prompt(random_model: LocalModel) -> None:
    """They may be given alone, and not beside a prompt that has its own."""
    examples = [{"number": 4}]
    short = TabularGenerator(Even, random_model, examples=examples)
    long = TabularGenerator(Even, random_model, prompt=FewShotPrompt(examples=examples))

    assert short.prompt_text("x") == long.prompt_text("x")
    with pytest.raises(UsageError, match="examples"):
        TabularGenerator(Even, random_model, prompt=FewShotPrompt(), examples=examples)


def test_examples_that_do_not_fit_are_counted(random_model: LocalModel) -> None:
    """The hint says how many of the examples fit, and so many do."""
    bounds = Bounds(max_length=100)
    examples = [{"note": f"{number:03}" * 1000} for number in range(600)]
    with pytest.raises(DecodingError) as caught:
        TabularGenerator("note", random_model, examples=examples, bounds=bounds).generate()

    found = re.search(r"Give (\d+) examples or fewer: so many of the 600 fit", caught.value.hint)
    assert found is not None
    fitting = examples[: int(found[1])]
    assert 300 < len(fitting) < 600
    assert TabularGenerator("note", random_model, examples=fitting, bounds=bounds).rows("", 1)


@pytest.mark.parametrize("required", [[], ["a"]])
def test_rows_that_cannot_fit_the_context(
    required: list[str], random_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A least length beyond the context is an error before the first row, by path and keyword."""
    monkeypatch.setattr(RandomModel, "context_length", 8192)
    properties = {"a": {"type": "string", "minLength": 100_000}}
    schema = {"type": "object", "properties": properties, "required": required}

    with pytest.raises(DecodingError, match="a row may have") as caught:
        TabularGenerator(schema, random_model).generate(rows=1)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Lower minLength of $.a")
