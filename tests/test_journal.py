import random
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from xtgeo.errors import JournalError, OutputError
from xtgeo.journal import DamagedJournal, Journal

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


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path):
    others = {"text": b"anything but sqlite, and long enough to look" * 50}
    with sqlite3.connect(tmp_path / "table") as db:
        db.execute("CREATE TABLE answers (tile, name, value)")
    db.close()
    others["table"] = (tmp_path / "table").read_bytes()
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(JournalError, match="is not a journal of this xtgeo: delete it or use --overwrite"):
            Journal(tmp_path / name, IDENTITY)
        assert (tmp_path / name).read_bytes() == content
        journal = Journal(tmp_path / name, IDENTITY, replace=True)
        assert journal.done() == set() and journal.note is None
        journal.close()
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "j", IDENTITY)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def damages(good):
    """A journal as a bad disk may give it back."""
    rng = random.Random(0)
    for share in (0.0001, 0.1, 0.5, 0.9):
        yield "cut", good[: max(20, int(share * len(good)))]
    for _ in range(30):
        at, bits = rng.randrange(76, len(good)), rng.randrange(1, 256)
        yield "bits", good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :]
    for size in (1, 16, 512, 4096) * 3:
        at = rng.randrange(76, len(good) - size)
        yield "garbage", good[:at] + rng.randbytes(size) + good[at + size :]
    for _ in range(6):
        at = rng.randrange(len(good) // 4096) * 4096
        yield "zeros", good[:at] + bytes(4096) + good[at + 4096 :]


def test_a_damaged_journal_gives_what_was_kept_or_nothing_and_is_set_aside(tmp_path):
    path, rng = tmp_path / "j", random.Random(1)
    kept = {tile: rng.randbytes(rng.choice([10, 3000, 20_000])) for tile in range(20)}
    journal = Journal(path, IDENTITY)
    journal.set_plan({"span": 2})
    for tile, value in kept.items():
        journal.put(tile, mask=value)
    journal.close()
    found = Counter()
    for kind, bad in damages(path.read_bytes()):
        path.write_bytes(bad)
        journal = Journal(path, IDENTITY)
        if journal.note is None:
            assert dict(journal.get("mask")) == kept and journal.plan == {"span": 2}
        else:
            assert "was damaged, it is now" in journal.note and (tmp_path / "j.damaged").read_bytes() == bad
            assert journal.done() == set() and journal.plan is None
            journal.put(0, mask=b"anew")
        found[kind, journal.note is None] += 1
        journal.delete()
        (tmp_path / "j.damaged").unlink(missing_ok=True)
    assert found["cut", False] == 4 and found["zeros", False] == 6 and found["bits", False] > 20 and found["garbage", False] > 8


def test_an_empty_journal_is_a_new_one(tmp_path):
    (tmp_path / "j").touch()
    journal = Journal(tmp_path / "j", IDENTITY)
    journal.put(3, mask=b"x")
    assert journal.note is None and journal.done() == {3}


def test_what_is_damaged_while_it_is_in_use_is_never_handed_out(tmp_path):
    journal = Journal(tmp_path / "j", IDENTITY)
    for tile in range(50):  # more than SQLite keeps in memory
        journal.put(tile, mask=bytes([tile]) * 90_000)
    at = (tmp_path / "j").read_bytes().index(bytes([3]) * 4000)
    with open(tmp_path / "j", "r+b") as file:
        file.seek(at)
        file.write(b"garbage")
    with pytest.raises(DamagedJournal, match=r"j is damaged \(tile 3 .*\): run again, and the work begins anew"):
        for tile, value in journal.get("mask"):
            assert value == bytes([tile]) * 90_000
    journal.close()
    assert "was damaged" in Journal(tmp_path / "j", IDENTITY).note
