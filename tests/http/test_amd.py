"""AMD's GPUs: by the kernel's files, in a folder that looks like /sys/class/drm, and by the real
binding of AMD SMI over a fake library."""

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT, until
from tests.http.memories import Box, box

GIB = 2**30
MIB = 2**20
FAKE = ROOT / "tests" / "fakes" / "fakeamdsmi.c"
NVIDIA = "gpu 24576 0 0 0 GPU-aaaa A\n"
BOTH = """\
gpu 83 0x5a5d1b2c3d4e5f60 196608 2048 50 AMD Instinct MI300X
gpu 03 0 24576 1024 -1 AMD Radeon RX 7900 XTX
"""


def plug(drm: Path, number: int, bus: str, **files: object) -> Path:
    """A card, as the kernel shows it; its folder."""
    device = drm.parent / "devices" / f"0000:{bus}:00.0"
    device.mkdir(parents=True)
    shown = {
        "vendor": "0x1002",
        "device": "0x744c",
        "unique_id": "5a5d1b2c3d4e5f60",
        "mem_info_vram_total": 24 * GIB,
        "mem_info_vram_used": 1 * GIB,
        "mem_info_gtt_total": 64 * GIB,
        "gpu_busy_percent": 7,
        **files,
    }
    for name, value in shown.items():
        (device / name).write_text(f"{value}\n")
    (drm / f"card{number}").mkdir(parents=True)
    (drm / f"card{number}" / "device").symlink_to(device)
    return device


@pytest.fixture
def drm(tmp_path: Path) -> Path:
    return tmp_path / "drm"


async def test_figures_come_from_the_kernels_files(
    tmp_path: Path, fake_nvml: Path, drm: Path
) -> None:
    plug(drm, 1, "83", unique_id="0", gpu_busy_percent="", product_name="Radeon RX 7900 XTX")
    plug(drm, 2, "03")
    (drm / "card2-DP-1" / "device").mkdir(parents=True)  # where a screen goes
    plug(drm, 0, "00", vendor="0x8086")  # Intel's
    async with box(tmp_path, fake_nvml, "fail nvmlInitWithFlags 9") as two:
        report = await two.reports(gpus=2, problem="the NVIDIA driver is not loaded")
    assert report["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-5a5d1b2c3d4e5f60",
            "name": "AMD 0x744c",
            "total": 24 * GIB,
            "used": 1 * GIB,
            "utilisation": 7,
            "vendor": "amd",
            "ordinal": None,
        },
        {
            "index": 1,
            "uuid": "0000:83:00.0",
            "name": "Radeon RX 7900 XTX",
            "total": 24 * GIB,
            "used": 1 * GIB,
            "utilisation": None,
            "vendor": "amd",
            "ordinal": 1,
        },
    ]
    assert report["drivers"]["amd"].startswith("ok, by the kernel's files: amdsmi cannot be used")


async def test_figures_follow_the_files_and_cards_come_and_go(
    tmp_path: Path, fake_nvml: Path, drm: Path
) -> None:
    async with box(tmp_path, fake_nvml, NVIDIA) as two:
        report = await two.reports(gpus=1, problem=None)
        assert report["drivers"] == {"nvidia": "ok", "amd": "no GPU of AMD"}
        device = plug(drm, 0, "03")
        report = await two.reports(gpus=2, problem=None)
        assert [gpu["vendor"] for gpu in report["gpus"]] == ["nvidia", "amd"]
        used = device / "mem_info_vram_used"
        used.write_text(f"{5 * GIB}\n")
        await until(lambda: two.last()["gpus"][1]["used"] == 5 * GIB)
        used.unlink()
        await two.reports(gpus=1, problem="AMD's GPU at 0000:03:00.0 cannot be read: ")
        used.write_text(f"{GIB}\n")
        await two.reports(gpus=2, problem=None)


async def test_a_driver_that_comes_late_moves_no_other_gpu(
    tmp_path: Path, fake_nvml: Path, drm: Path
) -> None:
    plug(drm, 0, "03")
    async with box(tmp_path, fake_nvml, "fail nvmlInitWithFlags 9") as two:
        await two.reports(gpus=1, problem="not loaded")
        two.set(NVIDIA)
        report = await two.reports(gpus=2, problem=None)
        assert [(gpu["index"], gpu["vendor"]) for gpu in report["gpus"]] == [
            (0, "amd"),
            (1, "nvidia"),
        ]


# By AMD SMI.


@pytest.fixture(scope="session")
def fake_smi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a fake libamd_smi.so, with every function that the binding looks up."""
    folder = tmp_path_factory.mktemp("amdsmi")
    spec = find_spec("amdsmi")
    assert spec is not None
    assert spec.origin is not None
    binding = (Path(spec.origin).parent / "amdsmi_wrapper.py").read_text()
    names = set(re.findall(r"_libraries\['libamd_smi.so'\]\.(\w+)", binding))
    stub = "int {}(void);\n__attribute__((weak)) int {}(void) {{ return 2; }}\n"  # not supported
    (folder / "stubs.c").write_text("".join(stub.format(name, name) for name in names))
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    library = folder / "libamd_smi.so"
    subprocess.run(["gcc", *flags, "-o", library, FAKE, folder / "stubs.c"], check=True)
    return folder


def say(two: Box, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    draft = two.smi.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(two.smi)


def libraries(*folders: Path) -> str:
    return ":".join(str(folder) for folder in folders)


@pytest.fixture
def both(fake_nvml: Path, fake_smi: Path) -> str:
    return libraries(fake_nvml, fake_smi)


async def by_smi(two: Box) -> dict[str, Any]:
    """A report whose figures AMD SMI has told."""
    return await until(lambda: two.last() if two.last()["drivers"].get("amd") == "ok" else None)


@pytest.fixture
def program() -> Iterator[int]:
    """The pid of one that leads a session."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process.pid
    process.kill()
    process.wait()


async def test_names_and_uses_come_from_amd_smi_where_it_is(
    tmp_path: Path, both: str, drm: Path, program: int
) -> None:
    plug(drm, 0, "03", unique_id="0")
    plug(drm, 1, "83")
    async with box(tmp_path, both, NVIDIA) as two:
        two.leaders.write_text(str(program))
        say(two, f"{BOTH}process 83 {program} 700\nprocess 03 {program} 0\n")
        report = await by_smi(two)
        assert [(g["index"], g["name"], g["uuid"]) for g in report["gpus"]] == [
            (0, "A", "GPU-aaaa"),
            (1, "AMD Radeon RX 7900 XTX", "0000:03:00.0"),
            (2, "AMD Instinct MI300X", "GPU-5a5d1b2c3d4e5f60"),
        ]
        assert [(g["total"], g["used"], g["utilisation"]) for g in report["gpus"][1:]] == [
            (24 * GIB, 1 * GIB, None),
            (192 * GIB, 2 * GIB, 50),
        ]
        assert [g["ordinal"] for g in report["gpus"][1:]] == [0, None]
        taken = await until(lambda: two.last()["uses"].get(str(program)))
        assert taken.pop("host") > 0
        assert taken == {"gpu2": 700 * MIB}


async def test_where_amd_smi_fails_the_kernels_files_are_read_until_it_is_back(
    tmp_path: Path, both: str, drm: Path
) -> None:
    plug(drm, 0, "03")
    plug(drm, 1, "83", unique_id="1")
    async with box(tmp_path, both, NVIDIA) as two:
        report = await two.reports(gpus=3, problem=None)
        assert "amdsmi says: Error code: 34 | AMDSMI_STATUS_DRIVER" in report["drivers"]["amd"]
        assert report["gpus"][1]["name"] == "AMD 0x744c"
        say(two, BOTH)
        await by_smi(two)
        say(two, BOTH + "fail amdsmi_get_gpu_memory_usage 10\n")
        await until(lambda: "AMDSMI_STATUS_NO_PERM" in two.last()["drivers"]["amd"])
        say(two, BOTH + "fail amdsmi_get_gpu_process_list 10\nfail amdsmi_get_gpu_activity 2\n")
        report = await by_smi(two)
        assert [gpu["utilisation"] for gpu in report["gpus"][1:]] == [None, None]


# By another version of its binding.

OTHER_VERSION = """\
import importlib.util, sys
from ctypes import c_uint32
spec = importlib.util.spec_from_file_location("amdsmi", {origin!r})
it = sys.modules["amdsmi"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(it)
it.{function} = lambda *_: {answer}
"""


def other_binding(folder: Path, function: str, answer: str) -> str:
    """The real one, but for one answer: for PYTHONPATH."""
    spec = find_spec("amdsmi")
    assert spec is not None
    folder.mkdir()
    text = OTHER_VERSION.format(origin=spec.origin, function=function, answer=answer)
    (folder / "amdsmi.py").write_text(text)
    return str(folder)


async def test_a_binding_that_lists_programs_without_their_use_tells_all_else(
    tmp_path: Path, both: str, drm: Path, program: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = other_binding(tmp_path / "old", "amdsmi_get_gpu_process_list", "[c_uint32(7)]")
    monkeypatch.setenv("PYTHONPATH", older)
    plug(drm, 0, "03")
    async with box(tmp_path, both, NVIDIA) as two:
        two.leaders.write_text(str(program))
        say(two, f"{BOTH}process 83 {program} 700\n")
        assert len((await by_smi(two))["gpus"]) == 3
        taken = await until(lambda: two.last()["uses"].get(str(program)))
        assert taken.keys() == {"host"}


async def test_where_a_bindings_answers_have_another_shape_the_kernels_files_are_read(
    tmp_path: Path, both: str, drm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", other_binding(tmp_path / "old", "amdsmi_get_gpu_asic_info", "{}")
    )
    plug(drm, 0, "03")
    async with box(tmp_path, both, NVIDIA) as two:
        say(two, BOTH)
        because = "this version of amdsmi cannot be used (KeyError('asic_serial'))"
        await until(lambda: because in two.last()["drivers"].get("amd", ""))
        assert (await two.reports(gpus=2, problem=None))["gpus"][1]["name"] == "AMD 0x744c"
