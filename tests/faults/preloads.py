"""Lies that the C library tells a program: clocks that jump, names that lead elsewhere."""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

FAKES = Path(__file__).resolve().parent.parent / "fakes"
FLAGS = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def compiled(name: str, folder: Path) -> str:
    """The path of `tests/fakes/name.c`, to be preloaded."""
    library = folder / f"{name}.so"
    subprocess.run(["gcc", *FLAGS, "-o", library, FAKES / f"{name}.c", "-ldl"], check=True)
    return str(library)


@dataclass(frozen=True)
class Clocks:
    library: str
    file: Path

    @classmethod
    def made(cls, folder: Path) -> "Clocks":
        it = cls(compiled("clocks", folder), folder / "clocks")
        it.file.write_bytes(bytes(16))
        return it

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": self.library, "SHIFTED_CLOCKS": str(self.file)}

    def jump(self, *, wall: float = 0, monotonic: float = 0) -> None:
        """So many seconds from where they would be."""
        with self.file.open("r+b") as file:
            file.write(struct.pack("qq", int(wall), int(monotonic)))


@dataclass(frozen=True)
class Names:
    library: str
    file: Path

    @classmethod
    def made(cls, folder: Path) -> "Names":
        return cls(compiled("names", folder), folder / "names")

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": self.library, "RESOLVED_NAMES": str(self.file)}

    def lead(self, name: str, *addresses: str) -> None:
        """In one step. Nowhere: it cannot be resolved."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(" ".join((name, *addresses)) + "\n")
        draft.rename(self.file)
