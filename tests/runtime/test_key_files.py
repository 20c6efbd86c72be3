"""A file of keys is changed as a whole, by one command at a time, for its owner only."""

import stat
from pathlib import Path

import pytest

from runtime.key_files import KeyIdUnknown, add_key, changing, drop_key, use_key
from runtime.key_rings import create_key_ring, load_key_ring
from runtime.private_files import replace
from runtime.serving import StartRefused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_key_ring(tmp_path / "keys.json")
    return tmp_path / "keys.json"


def ids_of(path: Path) -> set[str]:
    return set(load_key_ring(path, "keys", "").keys)


def test_a_changed_file_is_for_its_owner_and_leaves_no_draft(path: Path) -> None:
    before = ids_of(path)
    with changing(path) as ring:
        new = add_key(ring, [], one_character=False)
    assert ids_of(path) == before | {new}
    with changing(path) as ring:
        use_key(ring, new)
    with changing(path) as ring:
        drop_key(ring, *before)
    assert ids_of(path) == {new}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_group_that_may_read_the_file_may_go_on_reading_it(path: Path) -> None:
    path.chmod(0o640)
    replace(path, path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_whoever_reads_meanwhile_has_a_whole_file(path: Path) -> None:
    before = path.read_text()
    with path.open() as reading:
        with changing(path) as ring:
            add_key(ring, [], one_character=False)
            assert path.read_text() == before
        assert reading.read() == before
    assert path.read_text() != before


def test_two_commands_do_not_change_a_file_at_once(path: Path) -> None:
    before = path.read_text()
    with changing(path), pytest.raises(StartRefused, match="run this one again"), changing(path) as ring:
        add_key(ring, [], one_character=False)
    assert ids_of(path) == set(load_key_ring(path, "keys", "").keys)
    assert len(path.read_text()) == len(before)


def test_the_current_key_stays_and_an_unknown_one_is_named(path: Path) -> None:
    with pytest.raises(StartRefused, match="make another one current first"), changing(path) as ring:
        drop_key(ring, ring["current"])
    with pytest.raises(KeyIdUnknown, match="The file has no key 'zz'"), changing(path) as ring:
        use_key(ring, "zz")


def test_an_id_that_was_used_is_not_used_again(path: Path) -> None:
    taken = [f"{number:02x}" for number in range(256)]
    with pytest.raises(StartRefused, match="Every id has been used"), changing(path) as ring:
        add_key(ring, taken, one_character=False)
