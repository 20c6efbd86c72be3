"""`make breaking` catches a change of the API that would break a caller: shown on copies broken on purpose."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")
# buf's exit code for "the check ran and has complaints".
COMPLAINTS = 100


async def breaking(folder: Path) -> tuple[int | None, str]:
    """What `make breaking` runs, in a copy of the project's proto folder."""
    process = await asyncio.create_subprocess_exec(
        BUF,
        "breaking",
        "--against",
        str(PROJECT / "proto" / "released.binpb"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    return process.returncode, output.decode()


@pytest.fixture
def copied_api(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "proto", tmp_path / "proto")
    shutil.copy(PROJECT / "buf.yaml", tmp_path)
    return tmp_path


def rewrite(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "proto" / "mpesa_payments" / "v1" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


async def test_the_api_serves_the_clients_of_the_last_release(copied_api: Path) -> None:
    assert await breaking(copied_api) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("int64 units = 2", "int32 units = 2", 'type from "int64" to "int32"'),
        ("int64 units = 2", "int64 shillings = 2", 'name from "units" to "shillings"'),
        ("int64 units = 2", "int64 units = 7", 'Previously present field "2"'),
    ],
    ids=["another type", "another name", "another number"],
)
async def test_a_change_that_breaks_callers_is_caught(copied_api: Path, old: str, new: str, complaint: str) -> None:
    rewrite(copied_api, "money.proto", old, new)
    code, output = await breaking(copied_api)
    assert code == COMPLAINTS
    assert complaint in output


async def test_a_new_field_is_no_break(copied_api: Path) -> None:
    rewrite(copied_api, "money.proto", "int64 units = 2;", "int64 units = 2;\n  // New.\n  string note = 1000;")
    assert await breaking(copied_api) == (0, "")
