"""What an image holds: `python -m deploy.images.assemble scores /app`, run while it is built."""

import shutil
import sys
from pathlib import Path

from deploy import units

ROOT = Path(__file__).parents[2]
# Those that have an image.
IMAGES = (*units.UNITS, "deploy")

_COMMON = ("chassis", "protos")
_READ = ("*.lua", "*.txt")
_NOT_RUN = ("tests", "__pycache__", "*.md", "*.proto", "*.pyi", "testing.py")

# Process 1 of a container is not ended by a signal without a handler, as while Python loads. Not by
# an exception, which Python drops where it is raised in a finalizer, as imports have many. A unit
# that is ended so has done all it should; a command that is interrupted, as `migrate`, has not.
_MAIN = """\
import os
import runpy
import signal
import sys

signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number if sys.argv[1:] else 0))
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""


def assemble(image: str, folder: Path, *, root: Path = ROOT) -> None:
    """Makes `folder` with the code of one of IMAGES and a `__main__.py` that runs it.

    A unit is alone with the chassis and the contracts, without tests: an import of anything
    else fails. Raises OSError.
    """
    for name in (*_COMMON, *_own(image, root)):
        target = folder / name
        if (root / name).is_dir():
            shutil.copytree(root / name, target, ignore=shutil.ignore_patterns(*_NOT_RUN))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target)
    module = "deploy" if image == "deploy" else units.module(image)
    (folder / "__main__.py").write_text(_MAIN.format(module=module))


def _own(image: str, root: Path) -> list[str]:
    """The files and folders of the image's own, relative to the root."""
    if image != "deploy":
        return [units.module(image).replace(".", "/")]
    # The table reads the settings of all units, which import a little of them. What lies beside
    # a module is read as it is imported.
    modules = [
        Path(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith(("services.", "gateway")) and module.__file__
    ]
    folders = {module.parent for module in modules}
    beside = [path for folder in folders for kind in _READ for path in folder.glob(kind)]
    found = {*modules, *beside, *root.glob("deploy/*.py"), *root.glob("services/*/migrations")}
    return sorted(str(path.relative_to(root)) for path in found)


if __name__ == "__main__":
    assemble(sys.argv[1], Path(sys.argv[2]))
