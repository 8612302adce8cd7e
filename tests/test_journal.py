import sqlite3
import subprocess
import sys

import pytest

from xtgeo.errors import JournalError, OutputError
from xtgeo.journal import Journal

IDENTITY = {"scene": {"href": "a.tif", "size": 3}, "threshold": 0.5}


def test_answers_come_back_in_the_order_of_the_tiles(tmp_path):
    journal = Journal(tmp_path / "j", IDENTITY)
    for tile in (5, 0, 3):
        journal.put(tile, mask=b"m%d" % tile, fragments=b"f")
    assert list(journal.get("mask")) == [(0, b"m0"), (3, b"m3"), (5, b"m5")]
    assert journal.done() == {0, 3, 5}


def test_work_is_found_again_and_the_plan_with_it(tmp_path):
    first = Journal(tmp_path / "j", IDENTITY)
    first.set_plan({"span": 2})
    first.put(1, mask=b"x")
    first.close()
    again = Journal(tmp_path / "j", IDENTITY)
    assert again.done() == {1} and again.plan == {"span": 2}
    again.delete()
    assert not list(tmp_path.iterdir())


def test_another_identity_is_refused_with_the_difference_or_replaced(tmp_path):
    Journal(tmp_path / "j", IDENTITY).close()
    with pytest.raises(JournalError, match=r"threshold was 0\.5, is 0\.7.*--overwrite"):
        Journal(tmp_path / "j", {**IDENTITY, "threshold": 0.7})
    journal = Journal(tmp_path / "j", {**IDENTITY, "threshold": 0.7}, replace=True)
    assert journal.done() == set()


def test_a_tile_is_kept_whole_or_not_at_all(tmp_path):
    journal = Journal(tmp_path / "j", IDENTITY)
    journal.put(0, mask=b"x")
    with pytest.raises(sqlite3.IntegrityError):
        journal.put(0, fragments=b"new", mask=b"again")
    assert list(journal.get("fragments")) == []


def test_killed_in_the_middle_it_keeps_what_was_finished(tmp_path):
    code = (
        "import os, sys; from xtgeo.journal import Journal\n"
        f"j = Journal({str(tmp_path / 'j')!r}, {IDENTITY!r})\n"
        "[j.put(i, mask=bytes(9000)) for i in range(5)]; os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    journal = Journal(tmp_path / "j", IDENTITY)
    assert journal.done() == set(range(5))
    assert all(value == bytes(9000) for _, value in journal.get("mask"))


def test_two_runs_cannot_share_a_journal(tmp_path):
    first = Journal(tmp_path / "j", IDENTITY)
    first.put(0, mask=b"x")
    with pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "j", IDENTITY)


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "j").write_bytes(b"anything but sqlite, and long enough to look" * 50)
    with pytest.raises(JournalError, match="not a readable journal"):
        Journal(tmp_path / "j", IDENTITY)
    assert Journal(tmp_path / "j", IDENTITY, replace=True).done() == set()
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "j", IDENTITY)
