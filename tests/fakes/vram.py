"""What the fake engine takes of the fake GPUs (fakenvml.c, fakeprocesses.h): `--vram`.

Rule: as of real cards nobody gets more than there is. Standard library only.
"""

import os
from collections.abc import Iterator
from contextlib import suppress


class Vram:
    def __init__(self, switch: str) -> None:
        gpu, _, mib = switch.rpartition(":")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")  # CUDA's default: all; here, one
        self._gpus = [gpu] if gpu else [seen for seen in visible.split(",") if seen]
        self._mib = float(mib or 0)

    def take(self, share: float) -> bool:
        """So much of all that it takes, told to the fake NVML. False: there is no room for it."""
        if not self._mib or not self._gpus:
            return True
        each = int(self._mib * share / len(self._gpus))
        file = os.path.join(self._folder(), str(os.getpid()))
        with open(f"{file}.draft", "w") as draft:
            draft.writelines(f"{gpu} {each}\n" for gpu in self._gpus)
        os.rename(draft.name, file)
        return all(self._fits(*gpu) for gpu in self._cards())

    def _cards(self) -> Iterator[tuple[set[str], int]]:
        """The names of each GPU, and what strangers leave of it."""
        lines = [line.split() for line in self._driver() if line.startswith("gpu ")]
        for index, (_, total, reserved, used, _, uuid, *_) in enumerate(lines):
            yield {str(index), uuid}, int(total) - int(reserved) - int(used)

    def _fits(self, names: set[str], room: int) -> bool:
        with os.scandir(self._folder()) as entries:
            files = [it.path for it in entries if it.name.isdigit() and lives(int(it.name))]
        taken = 0
        for file in files:
            with open(file) as lines:
                uses = [line.split() for line in lines]
            taken += sum(int(use[1]) for use in uses if use[0] in names)
        return taken <= room

    def _folder(self) -> str:
        return next(line.split()[1] for line in self._driver() if line.startswith("processes "))

    def _driver(self) -> list[str]:
        with open(os.environ["FAKE_NVML"]) as driver:
            return list(driver)


def lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
