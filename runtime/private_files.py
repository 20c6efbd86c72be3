"""Files with secrets: written whole, for their owner only, never half overwritten, and there after a power cut.

What is in them is for those who make them to say.
"""

import os
import secrets
import stat
from pathlib import Path

from runtime.serving import StartRefused

OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP
"""A group may read: that is how secrets are mounted for a service's own group."""


def why_not_private(path: Path) -> str | None:
    """Why a file with a secret may not be used as it is: others may read or write it. None where all is well."""
    try:
        mode = path.stat().st_mode
    except OSError:
        # Whoever reads it says why that is not possible.
        return None
    if not mode & OPEN_TO_OTHERS:
        return None
    return f"it is open to others (mode {stat.S_IMODE(mode):o}): chmod 600 it"


def write_once(path: Path, text: str) -> bool:
    """Write the file; False if there is one by this name already, which stays as it is. StartRefused says why not."""
    try:
        return _written(path, text)
    except OSError as error:
        raise StartRefused(
            f"{path} cannot be written: {error.strerror}. Name a file in a folder that this user may write to."
        ) from error


def replace(path: Path, text: str) -> None:
    """Write the file in the place of the one that is there, for the same owner and with the same mode.

    Whoever reads it meanwhile has the old one or the new one, whole. OSError says why not; then the old one is there.
    """
    before = path.stat()
    draft = _draft_of(path)
    try:
        _write_draft(draft, text, before)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is written or replaced; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _write_draft(draft: Path, text: str, like: os.stat_result | None = None) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        if like is not None:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & ~OPEN_TO_OTHERS)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _written(path: Path, text: str) -> bool:
    draft = _draft_of(path)
    try:
        _write_draft(draft, text)
        # A link fails if the name exists: of two programs that start together one wins, and neither sees half a file.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    # What is sealed with a key that is gone can never be opened.
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last: a file that is safe under a name that is not is lost all the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
