"""Builds the wheel: this package, and under its own name the part of generated/ that it needs.

The repository holds the generated code once. Inside the repository the package imports it as `mpesa_payments.v1`, where
the project has installed it. A wheel with that name would lose against another package of that name on the public
index, so in the wheel the code is `payment_client.mpesa_payments.v1`, and every import of it is changed to that.
protobuf itself knows messages by the names in the proto files, so both copies in one process are the same classes.
"""

import re
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
GENERATED = HERE.parent / "generated" / "mpesa_payments" / "v1"
PARTS = ("error_reason", "money", "payment", "payment_service", "receipt")
IMPORT = re.compile(r"^(\s*from )(mpesa_payments\.v1 import )", re.MULTILINE)


class BuildWithContract(build_py):
    """Copies the package and the generated code, and lets both import the copy."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        super().run()
        package = Path(self.build_lib, "payment_client")
        contract = package / "mpesa_payments" / "v1"
        contract.mkdir(parents=True)
        for part in PARTS:
            for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
                shutil.copyfile(self._generated(part + ending), contract / (part + ending))
        for folder in (contract, contract.parent):
            (folder / "__init__.py").write_text('"""The generated code of the payment service\'s API."""\n')
        for path in package.rglob("*.py*"):
            if path.suffix in (".py", ".pyi"):
                self._import_the_copy(path)

    def _generated(self, name: str) -> Path:
        path = GENERATED / name
        if not path.exists():
            raise SystemExit(
                f"{path} is missing: build the wheel from the folder payment_client inside the payment service's"
                " project (pip wheel ./payment_client), whose generated code goes into it."
            )
        return path

    def _import_the_copy(self, path: Path) -> None:
        content = path.read_text(encoding="utf-8")
        path.write_text(IMPORT.sub(r"\1payment_client.\2", content), encoding="utf-8")


# Built elsewhere: a folder left here would be looked at by whatever looks at the project, and go into the next wheel.
with tempfile.TemporaryDirectory() as scratch:
    setup(cmdclass={"build_py": BuildWithContract}, options={"build": {"build_base": scratch}})
