"""What is on its way is known after any kill.

What belongs here: the file. What does not: when it is written to (``test_email``).
"""

import threading
from pathlib import Path

import pytest

from resources.storage import handed as module
from resources.storage.handed import Handed


def test_what_is_noted_is_known_to_whoever_comes_later(tmp_path: Path) -> None:
    """Noted, answered, forgotten: another process reads the last of each."""
    handed = Handed.of(str(tmp_path))
    handed.note(["a", "b", "c"])
    handed.answer("b", "Q1")
    handed.answer("c", None)
    handed.note(["d"])
    handed.forget(["c"])

    for reader in (handed, Handed.of(str(tmp_path))):
        assert reader.noted() == {"a", "d"}
        assert reader.answered() == {"b": "Q1"}


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    """As in a new home."""
    assert Handed.of(str(tmp_path)).noted() == set()


@pytest.mark.parametrize("torn", ["+", "+ ", "+ x", "= a", "- x", "\x00\x00", "- a b c"])
def test_a_torn_last_line_is_passed_over_and_written_after(tmp_path: Path, torn: str) -> None:
    """Whatever a kill or a power cut left of it, what is before and after holds."""
    handed = Handed.of(str(tmp_path))
    handed.note(["a"])
    with handed.path.open("a") as file:
        file.write(torn)
    after = Handed.of(str(tmp_path))

    assert after.noted() == {"a"}
    after.note(["b"])
    assert {"a", "b"} <= after.noted() <= {"a", "b", "x"}  # a whole line was torn at its end only, if a key is known too many
    assert {"a", "b"} <= Handed.of(str(tmp_path)).noted()


def test_two_processes_read_what_the_other_one_writes(tmp_path: Path) -> None:
    """Both have it open."""
    first, second = Handed.of(str(tmp_path)), Handed.of(str(tmp_path))
    first.note(["a"])
    second.note(["b"])
    first.forget(["b"])

    assert first.noted() == second.noted() == {"a"}


def test_a_file_that_has_grown_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is still open in it, and whoever had the old one open goes on with the new one."""
    monkeypatch.setattr(module, "LARGEST", 2000)
    handed, other = Handed.of(str(tmp_path)), Handed.of(str(tmp_path))
    handed.note(["open"])
    handed.answer("taken", "Q1")
    other.note(["others"])
    for number in range(500):
        handed.note([f"k{number}"])
        handed.forget([f"k{number}"])
    other.note(["last"])

    assert handed.path.stat().st_size < 3000
    assert handed.noted() == other.noted() == Handed.of(str(tmp_path)).noted() == {"open", "others", "last"}
    assert other.answered() == {"taken": "Q1"}


def test_a_note_is_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And threads that wait share the flush."""
    handed = Handed.of(str(tmp_path))
    handed.note(["first"])
    flushed: list[int] = []
    both, gate = threading.Barrier(2), threading.Event()

    def slow_flush(_: int) -> None:
        flushed.append(handed.path.read_text().count("+ "))
        if len(flushed) == 1:
            both.wait(10)
            gate.wait(10)

    monkeypatch.setattr(module.os, "fsync", slow_flush)
    threads = [threading.Thread(target=handed.note, args=[[key]]) for key in "abcd"]
    threads[0].start()
    both.wait(10)
    for thread in threads[1:]:
        thread.start()
    while handed.path.read_text().count("+ ") < 5:
        pass
    gate.set()
    for thread in threads:
        thread.join(10)
    assert flushed == [2, 5]


def test_a_key_is_one_word(tmp_path: Path) -> None:
    """Anything else could not be read back."""
    with pytest.raises(ValueError, match="one word"):
        Handed.of(str(tmp_path)).note(["a\n- b"])
