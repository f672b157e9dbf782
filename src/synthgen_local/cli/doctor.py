"""`synthgen-local doctor`: what this machine can run, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from typing import Annotated, Any

import typer

from ..errors import DecodingError, ModelError, SynthgenError
from ..system.network import network_state
from . import console
from .options import OfflineOption, with_options

_PACKAGES = ("llama-cpp-python", "llguidance", "outlines", "pydantic")


@with_options
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    _network: OfflineOption,
) -> None:
    """Say what this machine can run, what is missing, and how to get it."""
    facts = _machine()
    problems: list[dict[str, Any]] = []
    for look in (_llama, _kernels, _models):
        try:
            facts |= look()
        except SynthgenError as error:
            problems.append(
                {"problem": str(error), "hint": error.hint, "exit_code": error.exit_code}
            )
    if as_json:
        console.data_json({**facts, "problems": problems, "ready": not problems})
    else:
        for name, value in facts.items():
            console.tell(f"{name.replace('_', ' ')}: {_for_people(value)}")
        for problem in problems:
            console.tell(f"missing: {problem['problem']} {problem['hint']}")
        console.data("ready" if not problems else "not ready")
    if problems:
        raise typer.Exit(problems[0]["exit_code"])


def _machine() -> dict[str, Any]:
    from ..models.resolve import cache_dir
    from ..system.cores import available_cores

    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "memory_bytes": _memory(),
        "network_closed_by": _shut(),
        "packages": {package: version(package) for package in _PACKAGES},
        "cache": str(folder),
        "cache_free_bytes": shutil.disk_usage(existing).free,
    }


def _shut() -> list[str]:
    """Who keeps sockets from being made: the same as in `generate` with the same options."""
    return [name for name, shut in vars(network_state()).items() if shut] or ["nobody"]


def _llama() -> dict[str, Any]:
    try:
        from ..engine.backends.llamacpp import gpu_offload, system_info
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"llama.cpp cannot be loaded: {error}",
            hint="Install it again: pip install --force-reinstall --no-cache-dir llama-cpp-python",
        ) from error
    features = [name for name, value in system_info().items() if value == "1"]
    return {"llama_cpp_features": features, "gpu_offload": gpu_offload()}


def _kernels() -> dict[str, Any]:
    """Our own kernels: rows are made without, too, so what is missing of them is no problem."""
    from ..kernels.build import compile_kernels
    from ..models.resolve import cache_dir

    try:
        found = compile_kernels(cache_dir() / "compiled") or "none: CC is set to nothing"
    except DecodingError as error:
        found = f"{error} {error.hint}"
    return {"kernels": found}


def _models() -> dict[str, Any]:
    from ..models.catalog import catalog, default_model
    from ..models.resolve import find

    here = {}
    for name in catalog():
        try:
            here[name] = str(find(name))
        except ModelError:
            if name == default_model():
                raise
    return {"models": here}


def _memory() -> int:
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _for_people(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{k} {v}" for k, v in value.items())
        case list():
            return " ".join(value)
        case bool():
            return "yes" if value else "no"
        case int() if value >= 1 << 20:
            return f"{value / 1e9:.1f} GB"
    return str(value)
