"""A box of the tests: runs short programs inside a boundary and tells what they said."""

import sys
import textwrap
from pathlib import Path

from sandbox.boundary import Isolation, Limits, Mount
from sandbox.watch import Ended, contain


class Box:
    """Runs short programs inside a boundary, started anew or from a warm parent."""

    def __init__(self, boundary: Isolation, folder: Path, warm: Path | None = None) -> None:
        self.boundary, self.folder, self.warm = boundary, folder, warm
        self.out, self.log = folder / "out", folder / "log.txt"
        self.out.mkdir()
        self.log.write_bytes(b"")

    def run(
        self,
        code: str,
        *,
        mounts: tuple[Mount, ...] = (),
        env: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> Ended:
        return contain(
            self.boundary,
            argv=[sys.executable, "-I", "-c", textwrap.dedent(code)],
            mounts=[Mount(self.out, "/out", True), *mounts],
            env=env or {},
            limits=limits or Limits(wall_s=20),
            log=self.log,
            warm=self.warm,
        )

    def said(self) -> str:
        return self.log.read_text()
