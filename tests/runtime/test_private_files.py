"""Files with secrets: whole, for their owner only, and never overwritten."""

import stat
from pathlib import Path

import pytest

from runtime.private_files import write_once
from runtime.serving import StartRefused


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="cannot be written: No such file or directory"):
        write_once(tmp_path / "missing" / "keys.json", "text\n")


def test_the_first_text_stays_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert write_once(path, "first\n")
    assert not write_once(path, "second\n")
    assert path.read_text() == "first\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
