"""Files with secrets: whole, for their owner only, and never overwritten."""

import stat
from pathlib import Path

import pytest

from runtime.private_files import why_not_private, write_once
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


@pytest.mark.parametrize(("mode", "open_to_others"), [(0o600, False), (0o440, False), (0o644, True), (0o620, True)])
def test_a_secret_that_others_may_read_is_told(tmp_path: Path, mode: int, open_to_others: bool) -> None:
    (tmp_path / "key").write_text("hush")
    (tmp_path / "key").chmod(mode)
    why = why_not_private(tmp_path / "key")
    assert (why is not None) is open_to_others
    if why is not None:
        assert "chmod 600" in why
    assert why_not_private(tmp_path / "none") is None
