"""What the benchmarks count on, without a peer and without timing anything."""

import sys

import pytest
from assignment import Assignment, Figures, Missing
from ceiling import prefill_rate
from llama_server import serve
from ours import prepare, prompts
from parts import PARTS, Clock, parts
from replay import playing, recorded
from table import Round, Section, table
from works import BILLING, LETTERS, TEXTS, WORKS, RowWork

from synthgen_local import LocalModel


@pytest.mark.parametrize("name", WORKS)
def test_what_we_make_of_a_work_is_valid(name: str, random_model: LocalModel) -> None:
    """Random logits make rows and texts that each work takes."""
    made = prepare(random_model, WORKS[name])(2, 0)
    assert [WORKS[name].is_valid(row.text, number) for number, row in enumerate(made)] == [True] * 2
    assert all(row.tokens for row in made)


@pytest.mark.parametrize("work", [BILLING, LETTERS])
def test_what_is_no_row_is_not_valid(work: RowWork) -> None:
    """An empty object is no row of any work."""
    assert not work.is_valid("{}", 0)
    assert not work.is_valid('{"cut": ', 0)


def test_a_text_is_valid_if_it_holds_every_value_of_its_record() -> None:
    """A text that lacks a value is not counted as valid."""
    text = " ".join(TEXTS.record(1).values())
    assert TEXTS.is_valid(text, 1)
    assert TEXTS.is_valid(text, 1 + len(TEXTS.records))
    assert not TEXTS.is_valid(text, 2)


def test_a_prompt_for_each_record_and_one_for_all_rows(random_model: LocalModel) -> None:
    """Rows share one prompt; each text has its own."""
    assert len(prompts(random_model, BILLING)) == 1
    assert len(set(prompts(random_model, TEXTS))) == len(TEXTS.records)


def test_an_assignment_travels_as_json() -> None:
    """What a process is told is what was written for it."""
    task = Assignment("outlines", "texts", "random", "", "", ["a", "b"], 64, 8, 2, 0, "")
    assert Assignment.read(task.write()) == task
    assert [task.prompt(number) for number in range(3)] == ["a", "b", "a"]


def test_the_parts_of_our_time_make_all_of_it(random_model: LocalModel) -> None:
    """Nothing of our time is left out or counted twice."""
    shares = parts(random_model, BILLING, 8, seed=0)
    idle = shares.pop("idle slots")
    assert sum(shares.values()) == pytest.approx(1)
    assert all(shares[part] >= 0 for part in PARTS)
    assert shares["decode"] > 0
    assert 0 <= idle < 1


def test_a_part_within_another_counts_as_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw is no part of what its rows do beside it."""
    clock, seconds = Clock(1), iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("parts.time.perf_counter", lambda: next(seconds))
    with clock.measuring("mask"), clock.measuring("draw"):
        pass
    monkeypatch.undo()
    assert clock.seconds == {"draw": 2.0, "mask": 8.0}


def test_the_clocks_are_gone_afterwards_and_change_no_row(random_model: LocalModel) -> None:
    """Measuring leaves the model and its rows as they were."""
    before = prepare(random_model, BILLING)(4, 0)
    parts(random_model, BILLING, 4, seed=0)
    assert prepare(random_model, BILLING)(4, 0) == before
    assert "decode" not in vars(random_model)


def test_a_run_that_is_played_back_makes_the_same_rows(model: LocalModel) -> None:
    """In fresh contexts, and with the clocks on; then passes are real again."""
    make, opened = prepare(model, BILLING), model.engine.open_context
    recording = recorded(model, make, 12, seed=0)
    rows = make(12, 0)
    with playing(model, recording, seconds=0.0):
        assert make(12, 0) == rows
        shares = parts(model, BILLING, 12, seed=0)
        assert make(12, 0) == rows
        with pytest.raises(KeyError):
            make(12, 1)
    assert 0 < shares["draw"] < 1
    assert model.engine.open_context == opened


def test_the_ceiling_is_a_rate(random_model: LocalModel) -> None:
    """The ceiling is tokens a second."""
    assert prefill_rate(random_model, seconds=0.01) > 0


def test_ratios_are_taken_within_a_round_and_what_is_missing_is_named() -> None:
    """Medians of ratios within rounds; who is not installed is named."""
    rounds = [
        Round(
            {
                "synthgen-local": Figures("synthgen-local", 8, 8, seconds, 50.0, 2_000_000),
                "synthgen-local-json": Figures("in JSON", 4, 4, seconds, 80.0, 2_000_000),
                "slow": Figures("slow 1.0", 2, 1, 2 * seconds, 0.0, 1_000_000),
                "absent": Missing("not installed"),
            },
            prefill,
            prefill / 2,
        )
        for seconds, prefill in ((1.0, 800.0), (4.0, 200.0))
    ]
    lines = table([Section("tiny", "billing", rounds)]).splitlines()
    ours = "5.00 (2.00 to 8.00) |  |  | 50% | 2 MB |"
    assert lines[2] == f"| tiny | billing | **synthgen-local** | 16 of 16 | {ours}"
    in_json = "2.50 (1.00 to 4.00) | 2.00× (2.00 to 2.00) |  | 40% | 2 MB |"
    assert lines[3] == f"| tiny | billing | **in JSON** | 8 of 8 | {in_json}"
    slow = "0.62 (0.25 to 1.00) | 8.00× (8.00 to 8.00) | 4.00× (4.00 to 4.00) | 6% | 1 MB |"
    assert lines[4] == f"| tiny | billing | slow 1.0 | 2 of 4 | {slow}"
    assert lines[5] == "| tiny | billing | absent | missing: not installed | | | | | |"
    assert "ceiling: 500 tokens/s, 50 a row of ours" in lines[6]
    plain = "ceiling of llama.cpp's kernels: 250 tokens/s | | 5.00 (2.00 to 8.00) | 1.00×"
    assert lines[7].startswith(f"| tiny | billing | {plain} (1.00 to 1.00) | | 50% |")
    assert len({line.count("|") for line in lines}) == 1


def test_a_server_that_ends_is_not_waited_for() -> None:
    """A server that dies at its start is an error at once."""
    with (
        pytest.raises(RuntimeError, match="ended"),
        serve(sys.executable, "none.gguf", context=64, threads=1),
    ):
        pass
