"""Processes to be killed, interrupted or limited: forked from one that has imported everything and opened nothing."""

import multiprocessing
import os
import sys
from pathlib import Path

FORKS = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
FORKS.set_forkserver_preload(
    ["geopandas", "pytest", "xtgeo.cli.progress", "xtgeo.cli.segment", "xtgeo.job", "xtgeo.batches"]
    + ["dask.cli", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"]
)


class Forked:
    """A function of a module, run with `arguments` in a process of its own; `errors` takes its standard error."""

    def __init__(self, errors: Path, function, *arguments):
        self.errors = errors
        self.process = FORKS.Process(target=_run, args=(errors, function, arguments))
        self.process.start()

    def end(self) -> tuple[int, str]:
        """Exit code, negative after a signal, and what was said on standard error."""
        self.process.join(120)
        return self.process.exitcode, self.errors.read_text()


def _run(errors, function, arguments):
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    function(*arguments)
