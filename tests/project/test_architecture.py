"""The rules that a reader of the code may rely on, read from the code itself."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from sidecar.diagram import phase_diagram

ROOT = Path(__file__).resolve().parents[2]
OURS = ("router", "shared", "sidecar")
MAY_IMPORT = {
    "router": {"router", "shared"},
    "shared": {"shared"},
    "sidecar": {"sidecar", "shared"},
}
WORLD = {
    "anyio",
    "asyncio",
    "httpx",
    "os",
    "psutil",
    "pynvml",
    "random",
    "socket",
    "starlette",
    "structlog",
    "subprocess",
    "threading",
    "time",
    "uvicorn",
}
FILES = sorted(str(p.relative_to(ROOT)) for name in OURS for p in (ROOT / name).rglob("*.py"))
PURE: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"][
    "include"
]


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def module_file(module: str) -> str | None:
    """The file of a module of ours; None for anything else."""
    path = module.replace(".", "/")
    return next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in FILES), None)


def imports(file: str) -> set[str]:
    """Every module that a file imports, in whatever way and wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports by a relative name"
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if module_file(name) else node.module for name in names}
    return found


def tops(file: str) -> set[str]:
    return {module.partition(".")[0] for module in imports(file)}


def test_the_reader_of_imports_sees_them() -> None:
    assert {"asyncio", "router.line", "shared.status"} <= imports("router/dispatch.py")
    assert {"router.call", "router.names"} <= imports("router/api/openai.py")


@pytest.mark.parametrize("file", FILES)
def test_router_and_sidecar_know_only_what_is_shared(file: str) -> None:
    package = file.partition("/")[0]
    strangers = {*OURS, "bench", "examples", "tests"} - MAY_IMPORT[package]
    assert not tops(file) & strangers


@pytest.mark.parametrize("file", PURE)
def test_a_pure_core_knows_no_world_and_no_shell(file: str) -> None:
    assert file in FILES
    assert not tops(file) & WORLD
    ours = {found for module in imports(file) if (found := module_file(module)) is not None}
    assert ours <= set(PURE)
    assert not [node for node in ast.walk(tree(file)) if isinstance(node, ast.AsyncFunctionDef)]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("file", FILES)
def test_no_shell_ever_reads_a_command(file: str) -> None:
    forbidden = ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            where = f"{file}:{node.lineno}"
            assert called(node) not in forbidden, where
            assert not called(node).endswith("create_subprocess_shell"), where
            assert "shell" not in {keyword.arg for keyword in node.keywords}, where


def test_the_documented_diagram_of_phases_is_the_table_itself() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    blocks = re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert phase_diagram() in blocks
