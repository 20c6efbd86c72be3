"""What the spool's folder promises, on disks that work and on disks that do not."""

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from callback_gateway.spool import Spool
from callback_gateway.spool_folder import SEGMENT_BYTES, SpoolFolder, SpoolUnusable
from runtime.key_rings import KeyRingUnusable, create_key_ring
from tests.callback_gateway.edges import eventually
from tests.callback_gateway.spools import a_callback, files, open_spool


def bodies(folder: SpoolFolder) -> list[bytes]:
    """Of everything that waits in the folder, in order."""
    return [record.callback.body for name in folder.segments() for record in folder.read(name).records]


def sealed(folder: SpoolFolder, *texts: bytes) -> list[bytes]:
    return [folder.sealer.seal(a_callback(text)) for text in texts]


def test_what_was_appended_is_there_after_a_crash(tmp_path: Path) -> None:
    crashed = open_spool(tmp_path)
    crashed.append(sealed(crashed, b"1", b"2"))
    crashed.append(sealed(crashed, b"3"))
    # As a kill leaves it: the descriptors go, and nothing else happens.
    os.close(crashed.lock)
    again = open_spool(tmp_path)
    assert bodies(again) == [b"1", b"2", b"3"]
    again.append(sealed(again, b"4"))
    assert bodies(again) == [b"1", b"2", b"3", b"4"]
    assert again.used_bytes == sum((tmp_path / "spool" / name).stat().st_size for name in files(tmp_path))


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = open_spool(tmp_path)
    folder.append(sealed(folder, b"1", b"2"))
    [name] = folder.segments()
    folder.reject(name, folder.read(name).records[0])
    folder.set_aside(name)
    folder.append(sealed(folder, b"3"))
    assert [name.split("/")[0] for name in files(tmp_path)][-2:] == ["damaged", "rejected"]
    for path in (tmp_path / "spool", tmp_path / "spool-keys.json", *(tmp_path / "spool").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_segment_ends_when_it_is_large(tmp_path: Path) -> None:
    folder = open_spool(tmp_path)
    for _ in range(2 * SEGMENT_BYTES // 65_536 + 2):
        folder.append(sealed(folder, os.urandom(65_536)))
    assert len(folder.segments()) == 3


def test_a_rejected_record_can_be_moved_back(tmp_path: Path) -> None:
    folder = open_spool(tmp_path)
    folder.append(sealed(folder, b"1", b"2", b"3"))
    [name] = folder.segments()
    second = folder.read(name).records[1]
    # Twice, as after a crash between this and what comes next.
    assert folder.reject(name, second) == folder.reject(name, second)
    folder.remove(name)
    assert bodies(folder) == []
    [kept] = (tmp_path / "spool" / "rejected").iterdir()
    kept.rename(tmp_path / "spool" / kept.name)
    assert bodies(folder) == [b"2"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_group_whose_fsync_fails_does_not_count(tmp_path: Path, code: int) -> None:
    folder = open_spool(tmp_path)
    folder.append(sealed(folder, b"before"))

    def fail(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    folder.sync = fail
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(code)):
            folder.append(sealed(folder, b"lost", b"as well"))
    folder.sync = os.fsync
    folder.append(sealed(folder, b"after"))
    assert bodies(folder) == [b"before", b"after"]
    assert len(files(tmp_path)) == 2
    assert all(not folder.read(name).unreadable_bytes for name in folder.segments())


async def test_nothing_is_kept_before_the_disk_has_said_so(tmp_path: Path) -> None:
    """Goal: `keep` ends only after the fsync of its group, and while one group is written the next one fills."""
    folder = open_spool(tmp_path)
    loop = asyncio.get_running_loop()
    asked: list[int] = []
    answers: list[asyncio.Future[None]] = []

    async def answer() -> None:
        answers.append(loop.create_future())
        await answers[-1]

    def sync(descriptor: int) -> None:
        asked.append(descriptor)
        asyncio.run_coroutine_threadsafe(answer(), loop).result()
        os.fsync(descriptor)

    folder.sync = sync
    spool = Spool(folder, bytes_max=10_000_000, keep_time_s=60.0)
    writer = asyncio.create_task(spool.write_groups())
    first = asyncio.create_task(spool.keep(a_callback(b"0")))
    await eventually(lambda: len(answers) == 1)
    others = [asyncio.create_task(spool.keep(a_callback(b"%d" % number))) for number in range(1, 50)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in (first, *others))
    answers[0].set_result(None)
    assert await first
    await eventually(lambda: len(answers) == 2)
    assert not any(task.done() for task in others)
    answers[1].set_result(None)
    assert all(await asyncio.gather(*others))
    assert len(asked) == 2
    assert spool.unsettled == 0
    writer.cancel()
    await spool.close()


async def test_a_disk_that_does_not_answer_in_time_has_not_kept_anything(tmp_path: Path) -> None:
    folder = open_spool(tmp_path)
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def sync(_descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    folder.sync = sync
    spool = Spool(folder, bytes_max=10_000_000, keep_time_s=0.1)
    writer = asyncio.create_task(spool.write_groups())
    assert await asyncio.gather(*[spool.keep(a_callback(b"%d" % number)) for number in range(20)]) == [False] * 20
    assert not spool.takes_callbacks
    released.set()
    await eventually(lambda: spool.takes_callbacks)
    assert spool.unsettled == 0
    writer.cancel()
    await spool.close()


def test_two_gateways_cannot_share_a_folder(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    with pytest.raises(SpoolUnusable, match="Another gateway uses the spool"):
        open_spool(tmp_path)
    first.close()
    open_spool(tmp_path).close()


def test_keys_that_are_gone_are_not_made_anew_while_something_is_sealed_with_them(tmp_path: Path) -> None:
    folder = open_spool(tmp_path)
    folder.append(sealed(folder, b"1"))
    folder.close()
    keys = tmp_path / "spool-keys.json"
    kept = keys.rename(tmp_path / "backup")
    with pytest.raises(SpoolUnusable, match="restore"):
        open_spool(tmp_path)
    assert not keys.exists()
    kept.rename(keys)
    again = open_spool(tmp_path)
    assert bodies(again) == [b"1"]
    again.close()


def test_damaged_keys_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "spool-keys.json").write_text("{")
    with pytest.raises(KeyRingUnusable, match=r"spool-keys\.json"):
        open_spool(tmp_path)
    (tmp_path / "spool-keys.json").unlink()
    open_spool(tmp_path).close()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda spool: spool.write_text("a file"), "Not a directory"),
        (lambda spool: (spool.mkdir(), spool.chmod(0o755)), "chmod 700"),
        (lambda spool: (spool.mkdir(mode=0o700), (spool / "lock").mkdir()), "Is a directory"),
        (lambda spool: spool.parent.rmdir(), "No such file or directory"),
    ],
    ids=["a file", "open to others", "a folder for a lock", "nowhere"],
)
def test_a_folder_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path, spoil: object, sentence: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert callable(spoil)
    spoil(place / "spool")
    create_key_ring(tmp_path / "spool-keys.json")
    with pytest.raises(SpoolUnusable, match=sentence) as refusal:
        open_spool(place)
    assert str(place / "spool") in str(refusal.value)
    assert "GATEWAY_SPOOL_FOLDER" in str(refusal.value)
