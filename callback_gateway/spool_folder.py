"""The spool's files, and what makes them last: each function here is done only when the disk says that it is.

    FOLDER/000001-kqzwvbxa.spool    a segment: records, appended and fsync'd in groups; read only once it is closed
    FOLDER/rejected/….spool         one record each: what the payment service refused for good
    FOLDER/damaged/….spool          whole segments of which some bytes could not be read
    FOLDER/lock                     held (flock) while a gateway uses the folder

The folder is the only state: every file `*.spool` in it is still to be delivered, and one that is done with leaves it.
So a crash at any moment costs nothing but repeats. A name is new each time and never written over, every change of
names is followed by an fsync of their folder, and a segment of which a write failed is written to no more: after a
failed fsync the kernel may have dropped the pages and call the next one a success.

Everything blocks, and nothing is locked against another thread: one thread calls it (`spool.py`).
"""

import contextlib
import errno
import fcntl
import os
import secrets
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callback_gateway.spool_records import RECORD_MAX_BYTES, Contents, Record, RecordSealer, key_ids
from runtime.key_rings import KeyRing, create_key_ring, load_key_ring
from runtime.private_files import sync_folder
from runtime.serving import StartRefused

SUFFIX = ".spool"
REJECTED, DAMAGED = "rejected", "damaged"
# A segment is read whole and removed whole: large enough for a thousand callbacks, small enough for any memory.
SEGMENT_BYTES = 1_048_576


class SpoolUnusable(StartRefused):
    """The spool's folder or keys cannot be used."""


@dataclass
class Segment:
    """The segment that is being written: `size` is what is known to be on disk."""

    path: Path
    descriptor: int
    size: int = 0


@dataclass(eq=False)
class SpoolFolder:
    """The folder of one gateway, which holds its lock. Every method may raise OSError, and has then lost nothing."""

    path: Path
    sealer: RecordSealer
    lock: int
    # What makes written bytes last; a disk that fails is another one.
    sync: Callable[[int], None] = os.fsync
    used_bytes: int = 0
    _active: Segment | None = field(default=None, init=False)

    def append(self, records: Sequence[bytes]) -> None:
        """Write the records; when this returns they are on disk, and when it raises none of them counts."""
        segment = self._active or self._begin_segment()
        data = b"".join(records)
        try:
            _write_all(segment.descriptor, data)
            self.sync(segment.descriptor)
        except OSError:
            self._abandon(segment)
            raise
        segment.size += len(data)
        self.used_bytes += len(data)
        if segment.size >= SEGMENT_BYTES:
            self._end_segment()

    def segments(self) -> list[str]:
        """The names of all segments, oldest first, fit to be read: the one being written is ended, the next append
        begins another. Takes stock of the room that is used, too."""
        self._end_segment()
        sizes = {path: path.stat().st_size for path in _spool_files(self.path)}
        self.used_bytes = sum(sizes.values())
        return sorted(path.name for path in sizes if path.parent == self.path)

    def read(self, name: str) -> Contents:
        """What a segment holds."""
        return self.sealer.read((self.path / name).read_bytes())

    def remove(self, name: str) -> None:
        """Remove a segment of which everything is settled."""
        path = self.path / name
        size = path.stat().st_size
        path.unlink()
        self.used_bytes -= size
        sync_folder(self.path)

    def set_aside(self, name: str) -> Path:
        """Move a segment that is settled but for what cannot be read; gives its new path."""
        kept = self._place(DAMAGED, name)
        (self.path / name).rename(kept)
        sync_folder(kept.parent)
        sync_folder(self.path)
        return kept

    def reject(self, name: str, record: Record) -> Path:
        """Keep one record of a segment for an operator; gives its path. Done again, it is the same file."""
        with (self.path / name).open("rb") as segment:
            segment.seek(record.start)
            data = segment.read(record.end - record.start)
        kept = self._place(REJECTED, f"{name.removesuffix(SUFFIX)}-{record.start}{SUFFIX}")
        draft = kept.with_name(f".{kept.name}")
        self._write_file(draft, data)
        draft.rename(kept)
        sync_folder(kept.parent)
        sync_folder(self.path)
        self.used_bytes += len(data)
        return kept

    def probe(self) -> None:
        """Raise OSError unless the disk takes the largest record now."""
        probe = self.path / ".probe"
        try:
            self._write_file(probe, bytes(RECORD_MAX_BYTES))
        finally:
            probe.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files; another gateway may use the folder from now on."""
        self._end_segment()
        os.close(self.lock)

    def _begin_segment(self) -> Segment:
        numbers = [_number(path) for path in _spool_files(self.path)]
        mark = "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
        path = self.path / f"{max(numbers, default=0) + 1:06d}-{mark}{SUFFIX}"
        segment = Segment(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600))
        try:
            sync_folder(self.path)
        except OSError:
            self._abandon(segment)
            raise
        self._active = segment
        return segment

    def _end_segment(self) -> None:
        segment, self._active = self._active, None
        if segment is not None:
            os.close(segment.descriptor)

    def _abandon(self, segment: Segment) -> None:
        """Close a segment after a write that failed, without the bytes that do not count if that can be had."""
        self._active = None
        with contextlib.suppress(OSError):
            if segment.size:
                os.ftruncate(segment.descriptor, segment.size)
            else:
                segment.path.unlink()
        with contextlib.suppress(OSError):
            os.close(segment.descriptor)

    def _place(self, folder: str, name: str) -> Path:
        """Where a file is kept for an operator, who may have taken the whole folder away."""
        (self.path / folder).mkdir(mode=0o700, exist_ok=True)
        return self.path / folder / name

    def _write_file(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write_all(descriptor, data)
            self.sync(descriptor)
        finally:
            os.close(descriptor)


def open_spool_folder(path: Path, keys_file: Path) -> SpoolFolder:
    """Take the folder for this process, with its keys, both made if they are not there; SpoolUnusable says why not."""
    try:
        _make_private_folder(path)
        lock = _take_lock(path)
        try:
            return _locked_folder(path, keys_file, lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise SpoolUnusable(
            f"The spool in {path} with the keys in {keys_file} cannot be used: {error.strerror} "
            f"({error.filename or path}). Repair that, name others with GATEWAY_SPOOL_FOLDER and "
            "GATEWAY_SPOOL_KEYS_FILE, or set GATEWAY_SPOOL_FOLDER to nothing to serve without a spool."
        ) from error


def load_spool_keys(keys_file: Path) -> KeyRing:
    """The keys that the spool is sealed with; KeyRingUnusable says why they cannot be used."""
    return load_key_ring(keys_file, "spool keys", "Let this user read the file that GATEWAY_SPOOL_KEYS_FILE names.")


def keys_needed(path: Path) -> dict[str, int]:
    """By the ids of their keys, how many records are in the spool, with those that are kept for an operator."""
    needed: Counter[str] = Counter()
    for file in _spool_files(path):
        # A file that is delivered meanwhile needs nothing more.
        with contextlib.suppress(FileNotFoundError):
            needed.update(key_ids(file.read_bytes()))
    return dict(needed)


def _locked_folder(path: Path, keys_file: Path, lock: int) -> SpoolFolder:
    if not keys_file.exists():
        _make_keys(path, keys_file)
    # A start that was killed right after it made the keys may have left their name unsafe.
    sync_folder(keys_file.parent)
    ring = load_spool_keys(keys_file)
    for draft in (path / REJECTED).glob(f".*{SUFFIX}"):
        # Of a move that a crash has ended; its record stands in its segment.
        draft.unlink()
    folder = SpoolFolder(path, RecordSealer(ring), lock)
    folder.segments()
    return folder


def _make_private_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        if path.stat().st_mode & 0o077:
            raise SpoolUnusable(
                f"{path} is open to others and is to hold callbacks: chmod 700 it, "
                "or name a folder that is not there yet with GATEWAY_SPOOL_FOLDER."
            ) from None
    sync_folder(path.parent)


def _take_lock(path: Path) -> int:
    # Not inherited by any child, and let go of by the kernel however the process ends.
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolUnusable(
            f"Another gateway uses the spool in {path}: stop that one, "
            "or give each gateway a folder of its own with GATEWAY_SPOOL_FOLDER."
        ) from None
    return lock


def _make_keys(path: Path, keys_file: Path) -> None:
    if _spool_files(path):
        raise SpoolUnusable(
            f"There are no spool keys in {keys_file}, but {path} holds callbacks that were sealed with some: restore "
            "the file from a backup, or move the callbacks away."
        )
    create_key_ring(keys_file)


def _spool_files(path: Path) -> list[Path]:
    folders = (path, path / REJECTED, path / DAMAGED)
    found = (file for folder in folders if folder.exists() for file in folder.iterdir())
    # A name with a dot in front is a draft.
    return [file for file in found if file.suffix == SUFFIX and not file.name.startswith(".") and file.is_file()]


def _number(path: Path) -> int:
    digits = path.name.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
