"""Progress for people: a bar on a terminal, a line now and then elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xtgeo.scene import Scene

SECONDS = 15
"""Between two plain lines."""


@contextmanager
def progress(scene: Scene, *, quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    """A function of (tiles done, tiles in all, pixels done in this run) that shows how far the work is."""
    if quiet:
        yield lambda done, total, pixels: None
    elif sys.stderr.isatty():
        with _bar(scene) as report:
            yield report
    else:
        yield _lines(scene)


@contextmanager
def _bar(scene: Scene) -> Iterator[Callable[[int, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(scene.id),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles  {task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, start = bar.add_task("", total=None, speed=""), time.monotonic()

        def report(done: int, total: int, pixels: int) -> None:
            speed = pixels / 1e6 / max(time.monotonic() - start, 1e-3)
            bar.update(task, completed=done, total=total, speed=f"{speed:.1f} Mpx/s" if pixels else "")

        yield report


def _lines(scene: Scene) -> Callable[[int, int, int], None]:
    start = last = time.monotonic()

    def report(done: int, total: int, pixels: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS and done:
            last, speed = now, f", {pixels / 1e6 / (now - start):.1f} Mpx/s" if pixels else ""
            left = (total - done) / done * (now - start)
            print(f"{scene.id}: {done} of {total} tiles{speed}, {left:.0f} s left", file=sys.stderr)

    return report
