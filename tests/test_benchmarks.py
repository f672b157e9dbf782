"""The benchmarks' own code, without a peer and without timing anything."""

import sys
from pathlib import Path

import pytest
from llama_server import serve
from regression import compare
from replay import record_run, replay_run
from report import CHART, README, render_chart, render_readme
from results_table import Round, Section, render_table, summarize
from run_spec import Measurement, Missing, RunSpec
from synthgen import prepare, prompts
from time_profile import PARTS, Clock, measure_parts
from upper_bound import measure_prefill
from workloads import BILLING, LETTERS, TEXTS, WORKLOADS, RowWorkload

from synthgen_local import LocalModel


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_we_make_of_a_work_is_valid(name: str, random_model: LocalModel) -> None:
    """Random logits make rows and texts that each workload accepts."""
    made = prepare(random_model, WORKLOADS[name])(2, 0)
    assert [WORKLOADS[name].is_valid(row.text, number) for number, row in enumerate(made)] == [
        True
    ] * 2
    assert all(row.tokens for row in made)


@pytest.mark.parametrize("workload", [BILLING, LETTERS])
def test_what_is_no_row_is_not_valid(workload: RowWorkload) -> None:
    """An empty object is no row of any workload."""
    assert not workload.is_valid("{}", 0)
    assert not workload.is_valid('{"cut": ', 0)


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
    task = RunSpec("outlines", "texts", "random", "", "", ["a", "b"], 64, 8, 2, 0, "")
    assert RunSpec.read(task.write()) == task
    assert [task.prompt(number) for number in range(3)] == ["a", "b", "a"]


def test_the_parts_of_our_time_make_all_of_it(random_model: LocalModel) -> None:
    """Nothing of our time is left out or counted twice."""
    shares = measure_parts(random_model, BILLING, 8, seed=0)
    idle = shares.pop("idle slots")
    assert sum(shares.values()) == pytest.approx(1)
    assert all(shares[part] >= 0 for part in PARTS)
    assert shares["decode"] > 0
    assert 0 <= idle < 1


def test_a_part_within_another_counts_as_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw is no part of what its rows do beside it."""
    clock, seconds = Clock(1), iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("time_profile.time.perf_counter", lambda: next(seconds))
    with clock.measuring("mask"), clock.measuring("draw"):
        pass
    monkeypatch.undo()
    assert clock.seconds == {"draw": 2.0, "mask": 8.0}


def test_the_clocks_are_gone_afterwards_and_change_no_row(random_model: LocalModel) -> None:
    """Measuring leaves the model and its rows as they were."""
    before = prepare(random_model, BILLING)(4, 0)
    measure_parts(random_model, BILLING, 4, seed=0)
    assert prepare(random_model, BILLING)(4, 0) == before
    assert "decode" not in vars(random_model)


def test_a_run_that_is_played_back_makes_the_same_rows(model: LocalModel) -> None:
    """In fresh contexts, and with the clocks on; then passes are real again."""
    make, opened = prepare(model, BILLING), model.engine.open_context
    recording = record_run(model, make, 12, seed=0)
    rows = make(12, 0)
    with replay_run(model, recording, seconds=0.0):
        assert make(12, 0) == rows
        shares = measure_parts(model, BILLING, 12, seed=0)
        assert make(12, 0) == rows
        with pytest.raises(KeyError):
            make(12, 1)
    assert 0 < shares["draw"] < 1
    assert model.engine.open_context == opened


def test_the_ceiling_is_a_rate(random_model: LocalModel) -> None:
    """The upper bound is a rate in tokens/s."""
    assert measure_prefill(random_model, seconds=0.01) > 0


def test_ratios_are_taken_within_a_round_and_what_is_missing_is_named() -> None:
    """Medians of ratios within rounds; a system that is not installed is named."""
    rounds = [
        Round(
            {
                "synthgen-local": Measurement("synthgen-local", 8, 8, seconds, 50.0, 2_000_000),
                "synthgen-local-json": Measurement("in JSON", 4, 4, seconds, 80.0, 2_000_000),
                "slow": Measurement("slow 1.0", 2, 1, 2 * seconds, 0.0, 1_000_000),
                "absent": Missing("not installed"),
            },
            bound,
            bound / 2,
        )
        for seconds, bound in ((1.0, 800.0), (4.0, 200.0))
    ]
    lines = render_table(summarize([Section("tiny", "billing", rounds)])).splitlines()
    own = "5.00 (2.00 to 8.00) |  |  | 50% | 2 MB |"
    assert lines[2] == f"| tiny | billing | **synthgen-local** | 16 of 16 | {own}"
    own_json = "2.50 (1.00 to 4.00) | 2.00× |  | 40% | 2 MB |"
    assert lines[3] == f"| tiny | billing | **in JSON** | 8 of 8 | {own_json}"
    slow = "0.62 (0.25 to 1.00) | 8.00× | 4.00× | 6% | 1 MB |"
    assert lines[4] == f"| tiny | billing | slow 1.0 | 2 of 4 | {slow}"
    assert lines[5] == "| tiny | billing | absent | missing: not installed | | | | | |"
    assert "upper bound: 500 tokens/s" in lines[6]
    plain = "upper bound, llama.cpp's kernels: 250 tokens/s |  | 5.00 (2.00 to 8.00) | 1.00×"
    assert lines[7].startswith(f"| tiny | billing | {plain} |  | 50% |")
    assert len({line.count("|") for line in lines}) == 1


def test_the_documents_have_the_results() -> None:
    """The tables of benchmarks/README.md and the chart are those of `results/*.json`."""
    text = README.read_text(encoding="utf-8")

    assert text.count("<!-- results:") >= 3
    assert render_readme(text) == text
    assert CHART.read_text(encoding="utf-8") == render_chart()


def test_two_versions_are_compared_in_alternating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio a round; the second round runs the new version first."""
    order: list[str] = []

    def rate(source: Path, *_: object) -> float:
        order.append(source.name)
        return {"old": 4.0, "new": 3.0}[source.name]

    monkeypatch.setattr("regression.measure", rate)
    ratios = compare(Path("old"), Path("new"), "billing", rows=1, model="random", rounds=2)

    assert ratios == [0.75, 0.75]
    assert order == ["old", "new", "new", "old"]


def test_a_server_that_ends_is_not_waited_for() -> None:
    """A server that dies at its start is an error at once."""
    with (
        pytest.raises(RuntimeError, match="ended"),
        serve(sys.executable, "none.gguf", context=64, threads=1),
    ):
        pass
