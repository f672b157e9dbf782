"""Write the API reference of the public names to `site/`, from their docstrings (`make docs`).

Needs the dependency group `docs`; uses no network.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pdoc

SITE = Path(__file__).parents[1] / "site"
MODULES = ("synthgen_local", "synthgen_local.langchain", "synthgen_local.outlines")


def main() -> None:
    """Resolve the lazily imported names, which pdoc does not see, and write the site."""
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            setattr(module, public, getattr(module, public))
    pdoc.render.configure(docformat="google", search=True)
    pdoc.pdoc(*MODULES, output_directory=SITE)


if __name__ == "__main__":
    main()
