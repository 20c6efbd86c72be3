"""The wheel: it installs alone, carries the generated code under its own name, and tolerates others beside it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS

PROJECT = Path(__file__).parents[2]
CLIENT = PROJECT / "payment_client"
# What the wheel asks for, and what that asks for in turn.
NEEDED = ("grpcio", "protobuf", "typing-extensions")

USE_IT = """
import importlib.util
import sys
sys.path.extend(sys.argv[1:])
import payment_client
from payment_client import Payment, PaymentsClient, Purchase

assert payment_client.contract.payment_pb2.__name__ == "payment_client.mpesa_payments.v1.payment_pb2"
assert importlib.util.find_spec("google.rpc") is None, "the wheel is to need grpcio and protobuf only"
PaymentsClient("127.0.0.1:1")
request = Purchase(booking_id="TRIP-1", phone_number="0712345678", amount=500).request()
assert type(request).FromString(request.SerializeToString()) == request
"""
BESIDE_ANOTHER = (
    USE_IT
    + """
import mpesa_payments
assert mpesa_payments.WHOSE == "another's"
"""
)
BESIDE_OURS = (
    USE_IT
    + """
from mpesa_payments.v1 import payment_pb2
assert payment_pb2.Payment is Payment, "one message, two classes"
"""
)


async def run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.fixture(scope="module")
async def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `pip install ./payment_client` builds it, from a copy: a build leaves files behind."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(CLIENT, folder / "payment_client", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    shutil.copytree(PROJECT / "generated", folder / "generated")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    flags: list[str | Path] = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "dist"]
    await run(*pip, "wheel", *flags, folder / "payment_client")
    assert not (folder / "payment_client" / "build").exists(), "the build has left something in the project"
    [built] = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
async def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel, what it asks for, and nothing else.

    What it asks for comes from the environment of these tests, so that no network is needed.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "fresh", with_pip=False)
    python = folder / "fresh" / "bin" / "python"
    packages = site_packages(python)
    for name in NEEDED:
        for file in importlib.metadata.distribution(name).files or ():
            source, target = Path(str(file.locate())), packages / str(file)
            if ".." not in file.parts and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    await run(*pip, "install", "--no-index", wheel)
    await run(*pip, "check")
    return python


def site_packages(python: Path) -> Path:
    [found] = python.parents[1].glob("lib/python*/site-packages")
    return found


def test_the_wheel_claims_one_name_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"payment_client"}
    assert "payment_client/py.typed" in names
    assert "payment_client/mpesa_payments/v1/payment_pb2.pyi" in names


def test_the_extra_for_sqlalchemy_brings_what_its_asyncio_needs(wheel: Path) -> None:
    """The consumer of docs/adopting.md starts by importing `sqlalchemy.ext.asyncio`."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    (needed,) = (line for line in lines if line.endswith('extra == "sqlalchemy"'))
    assert needed.lower().startswith("requires-dist: sqlalchemy[asyncio]>=")


async def test_the_wheel_works_alone(fresh: Path) -> None:
    await run(fresh, "-c", USE_IT)


async def test_another_package_of_our_generated_codes_name_does_no_harm(fresh: Path, tmp_path: Path) -> None:
    """There is one on the public index. It is a package of the ordinary kind, which wins over one like ours."""
    other = tmp_path / "mpesa_payments"
    other.mkdir()
    (other / "__init__.py").write_text('WHOSE = "another\'s"\n')
    await run(fresh, "-c", BESIDE_ANOTHER, tmp_path)


async def test_the_services_own_generated_code_in_the_same_process_means_the_same_messages(fresh: Path) -> None:
    await run(fresh, "-c", BESIDE_OURS, PROJECT / "generated")


def test_nothing_in_the_repository_is_a_second_copy() -> None:
    assert list((CLIENT / "src").rglob("*_pb2*.py")) == []
