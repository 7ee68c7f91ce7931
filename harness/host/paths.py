"""Folders of the user, by the XDG base directory specification."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache_root(env: Mapping[str, str] = os.environ) -> Path:
    """Where everything is kept that can be made again; `HARNESS_CACHE` names another place."""
    named = env.get("HARNESS_CACHE")
    if named:
        return Path(named).absolute()
    base = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "kernel-harness"
