"""AMD's GPUs: by the `amdsmi` package where it is installed, else by the kernel's own files.

Rule: this file reads and decides nothing. What cannot be read is left out and told in words; it
is never a zero and never an exception.

The memory is the VRAM. What a GPU borrows of the host's (GTT) is left to the host's pool. An APU
has a small VRAM and works on the host's memory: its models book on the host (`gpus: none`) and get
the device by settings of their own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.gpus import Found, Taken
from sidecar.memory import Gpu

DRM = Path("/sys/class/drm")
VENDOR = "0x1002"
NO_GPU = "no GPU of AMD"

# What comes of another version of the binding, whose answers have another shape.
UNLIKE = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class _Card:
    """What the kernel calls card0, card1, ..."""

    device: Path

    @property
    def address(self) -> str:
        """On the PCI bus: 0000:03:00.0."""
        return self.device.resolve().name

    def text(self, name: str) -> str:
        return (self.device / name).read_text().strip()

    def text_if_any(self, name: str) -> str:
        with suppress(OSError):
            return self.text(name)
        return ""


class AmdGpus:
    def __init__(self, root: Path = DRM) -> None:
        self._root = root
        self._smi: _Smi | None = None

    def read(self) -> Found:
        cards = sorted(self._cards(), key=lambda card: card.address)  # as ROCm numbers them
        if not cards:
            return Found(NO_GPU)
        self._smi = self._smi or _Smi()
        return self._smi.read() or _by_files(cards, self._smi.silent)

    def _cards(self) -> Iterator[_Card]:
        for folder in self._root.glob("card*"):
            card = _Card(folder / "device")
            is_card = re.fullmatch(r"card\d+", folder.name)  # card0-DP-1 is where a screen goes
            if is_card and card.text_if_any("vendor") == VENDOR:
                yield card


# By the kernel's files. They do not tell what each process takes.


def _by_files(cards: list[_Card], why: str) -> Found:
    gpus, problems = [], []
    for number, card in enumerate(cards):
        try:
            gpus.append(_gpu(number, card))
        except (OSError, ValueError) as error:
            problems.append(f"AMD's GPU at {card.address} cannot be read: {error}")
    problem = "; ".join(problems) or None
    return Found(problem or f"ok, by the kernel's files: {why}", tuple(gpus), {}, problem)


def _gpu(number: int, card: _Card) -> Gpu:
    busy = card.text_if_any("gpu_busy_percent")
    uuid = _uuid(card.text_if_any("unique_id"))
    return Gpu(
        index=number,
        uuid=uuid or card.address,
        name=card.text_if_any("product_name") or f"AMD {card.text_if_any('device')}",
        total=int(card.text("mem_info_vram_total")),
        used=int(card.text("mem_info_vram_used")),
        utilisation=int(busy) if busy.isdigit() else None,
        vendor="amd",
        ordinal=None if uuid else number,
    )


def _uuid(serial: str) -> str:
    """As ROCm writes it; "" for cards that have none."""
    with suppress(ValueError):
        if number := int(serial, 16):
            return f"GPU-{number:016x}"
    return ""


class _Smi:
    """AMD's GPUs by the `amdsmi` package of ROCm 6 or newer."""

    def __init__(self) -> None:
        self.silent = ""  # why it does not tell
        self._initialised = False
        try:
            # Not on top: it is no dependency, and its import fails where ROCm is not installed.
            self._amdsmi: Any = importlib.import_module("amdsmi")
            self._amdsmi.amdsmi_get_gpu_process_list  # noqa: B018 - what the oldest ones lack
        except (ImportError, OSError, KeyError, AttributeError) as error:  # KeyError: no library
            self._amdsmi, self.silent = None, f"amdsmi cannot be used ({error})"

    def read(self) -> Found | None:
        if self._amdsmi is None:
            return None
        try:
            if not self._initialised:
                self._amdsmi.amdsmi_init()
                self._initialised = True
            return self._found()
        except self._amdsmi.AmdSmiException as error:
            self.silent = f"amdsmi says: {_in_a_line(error)}"
        except UNLIKE as error:
            self.silent = f"this version of amdsmi cannot be used ({error!r})"
        self._shut_down()
        return None

    def _found(self) -> Found:
        smi, gpus, taken = self._amdsmi, [], {}
        handles = smi.amdsmi_get_processor_handles()
        for number, handle in enumerate(sorted(handles, key=smi.amdsmi_get_gpu_device_bdf)):
            by_pid = self._taken(handle)  # first: see `gpus.Found`
            gpus.append(self._gpu(number, handle))
            taken[gpus[-1].uuid] = by_pid
        return Found("ok", tuple(gpus), taken) if gpus else Found(NO_GPU)

    def _gpu(self, number: int, handle: Any) -> Gpu:
        smi = self._amdsmi
        asic, vram = smi.amdsmi_get_gpu_asic_info(handle), smi.AmdSmiMemoryType.VRAM
        uuid = _uuid(asic["asic_serial"])
        return Gpu(
            index=number,
            uuid=uuid or smi.amdsmi_get_gpu_device_bdf(handle),
            name=asic["market_name"],
            total=smi.amdsmi_get_gpu_memory_total(handle, vram),
            used=smi.amdsmi_get_gpu_memory_usage(handle, vram),
            utilisation=self._utilisation_of(handle),
            vendor="amd",
            ordinal=None if uuid else number,
        )

    def _utilisation_of(self, handle: Any) -> int | None:
        with suppress(self._amdsmi.AmdSmiException, *UNLIKE):
            busy = self._amdsmi.amdsmi_get_gpu_activity(handle)["gfx_activity"]
            return busy if isinstance(busy, int) else None
        return None

    def _taken(self, handle: Any) -> Taken:
        """A process without VRAM is listed with 0, and so is one that we may not look at."""
        with suppress(self._amdsmi.AmdSmiException, *UNLIKE):
            listed = self._amdsmi.amdsmi_get_gpu_process_list(handle)
            return {it["pid"]: it["memory_usage"]["vram_mem"] or None for it in listed}
        return {}

    def _shut_down(self) -> None:
        if self._initialised:
            with suppress(self._amdsmi.AmdSmiException):
                self._amdsmi.amdsmi_shut_down()
            self._initialised = False


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())
