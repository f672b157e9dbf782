"""The package logs under one name, silently by default, and never what users gave it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen_local import LocalModel, TabularGenerator


def test_nothing_is_printed_by_default() -> None:
    """Without a handler of the application a warning of the package is not printed."""
    code = "import logging, synthgen_local; logging.getLogger('synthgen_local.x').warning('seen')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (ran.stdout, ran.stderr) == ("", "")


@pytest.mark.model
def test_a_load_is_logged_and_no_example(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At every level there is a record of the load and none with an example, prompt or row."""
    with caplog.at_level(logging.DEBUG, "synthgen_local"), LocalModel.load(str(weights)) as model:
        generator = TabularGenerator("name", model, examples=[{"name": "Quidditch"}], batch=1)
        rows = generator.generate("wards of Zanzibar", 1)

    records = [record.getMessage() for record in caplog.records]
    assert any(str(weights) in record or weights.name in record for record in records)
    assert not any(word in r for r in records for word in ("Quidditch", "Zanzibar", rows[0].name))
