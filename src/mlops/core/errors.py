"""Errors that a user can fix, their words, and the line of log that ends a stage."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops.core import paths

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """An error that the user can fix; shown without a traceback.

    Parameters
    ----------
    message : str
        What is wrong and where (file, key, column, row).
    hint : str, optional
        What to do; shown after ``try:``.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  try: {hint}" if hint else message)


class NoRowsError(UserError):
    """A source of data that can be read and has no rows."""


def counted(count: int, one: str, many: str = "") -> str:
    """``1 failure``, ``2 failures``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def described(error: BaseException) -> str:
    """The first line of an error, with its type."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def first_problem(error: ValidationError) -> str:
    """``metrics.auc: Field required``: the first problem that pydantic found; without a key if it has none."""
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


@contextmanager
def errors_in_words(code: int = 1) -> Iterator[None]:
    """Turn a `UserError`, a full disk or Ctrl-C into one message and a non-zero exit.

    Parameters
    ----------
    code : int, default=1
        The exit code of errors; Ctrl-C has 130.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        print("interrupted; no file is half-written, `make` continues from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        # pyarrow raises an OSError without errno
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            print(
                f"error: the disk is full ({error.filename or error}); no file is half-written\n"
                "  try: free some space (`dvc gc --workspace` drops old versions from the cache), then `make`",
                file=sys.stderr,
            )
            sys.exit(code)
        raise


def run(name: str, main: Callable[[], str]) -> None:
    """Run one stage and print one line with its input, output and duration.

    An error also goes to a file, from which a review puts it into its comment.
    """
    start = time.perf_counter()
    with errors_in_words():
        try:
            outcome = main()
        except UserError as error:
            paths.FAILURE.parent.mkdir(parents=True, exist_ok=True)
            paths.FAILURE.write_text(str(error), encoding="utf-8")
            raise
    print(f"{name:<9} {outcome}  ({time.perf_counter() - start:.1f} s)", flush=True)
