"""Packs a module that is built already into a wheel: pack.py MODULE.so FOLDER. Prints the wheel's path.

The gate builds the module with everything else; `make wheel` builds one for use, with maturin. Format of wheels: PEP 427.
"""

import base64
import hashlib
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def contents(module: Path, project: dict, version: str, tag: str):
    for file in sorted((HERE / "bellwether").iterdir()):
        if file.suffix in (".py", ".pyi") or file.name == "py.typed":
            yield f"bellwether/{file.name}", file.read_bytes()
    yield "bellwether/_native.abi3.so", module.read_bytes()
    needs = "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"])
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n"
    about = f"{head}Summary: {project['description']}\nRequires-Python: {project['requires-python']}\n{needs}"
    yield f"bellwether-{version}.dist-info/METADATA", about.encode()
    wheel = f"Wheel-Version: 1.0\nGenerator: bellwether\nRoot-Is-Purelib: false\nTag: {tag}\n"
    yield f"bellwether-{version}.dist-info/WHEEL", wheel.encode()


def pack(module: Path, folder: Path) -> Path:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    version = tomllib.loads((HERE.parents[1] / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    tag = f"cp310-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bellwether-{version}-{tag}.whl"
    record = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in contents(module, project, version, tag):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(data)}\n"
            archive.writestr(name, data)
        name = f"bellwether-{version}.dist-info/RECORD"
        archive.writestr(name, f"{record}{name},,\n")
    return path


if __name__ == "__main__":
    print(pack(Path(sys.argv[1]), Path(sys.argv[2])))
