"""The command ``giomua`` in a process of its own without the seconds that imports take: forked from one that has made them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

from pipelines import cli

_PARENT = get_context("forkserver")
_PARENT.set_forkserver_preload(["pipelines.cli", "pipelines.commands", "pipelines.make", "pipelines.simulate"])


class Running:
    """The command, running. It leads a process group.

    Args:
        arguments: After the name of the program.
        environment: All of it.
        cwd: Its working folder.
        out: File for its standard output.
        err: File for its standard error.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
        self._process = _PARENT.Process(target=_run, args=(arguments, environment, cwd, out, err))
        self._process.start()

    def ended(self, seconds: float | None = None) -> int | None:
        """Its exit code, negative for a signal, None when it has not ended within so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """With SIGKILL, and all that it started."""
        with contextlib.suppress(ProcessLookupError):  # it may not lead its group yet
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _run(arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    sys.argv = ["giomua", *arguments]
    cli.main()
