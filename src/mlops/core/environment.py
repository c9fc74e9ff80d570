"""Environment variables for a command that runs in another checkout."""

from __future__ import annotations

import os

# prefixes of variables that make Git, make, uv or Python in another folder use this folder or its environment
LEADING_HERE = (
    *("GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE"),
    *("GNUMAKEFLAGS", "MAKE", "MFLAGS"),
    *("PYTHONHOME", "PYTHONPATH", "UV_PROJECT", "UV_WORKING_DIR", "VIRTUAL_ENV"),
)


def apart() -> dict[str, str]:
    """Variables for a command in a clone that must change neither this checkout nor its `.venv`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(LEADING_HERE)}
