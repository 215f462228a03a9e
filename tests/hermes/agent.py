"""The real Hermes agent for tests: sealed off, with a home of its own and a bounded life.

Rule: it reaches this machine alone. Its requests to anywhere else (catalogues of models, updates)
go to a proxy that is not there, and it installs nothing.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tests.harness import ROOT, Program, free_port

HERMES = ROOT / ".venv-hermes" / "bin" / "hermes"
LONGEST = 90.0  # seconds: its start takes some, and so do its 9,000 tokens of prompt


@dataclass(frozen=True)
class Agent:
    """One user of Hermes, whose `base_url` is the router."""

    folder: Path
    router_url: str

    def program(self, model: str, *arguments: str, **env: str) -> Program:
        """`hermes ARGUMENTS`, to be started by the test."""
        home, work = self.folder / "home", self.folder / "work"
        for folder in (home, work):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "config.yaml").write_text(json.dumps(self._config(model)))  # JSON is YAML
        argv = [str(HERMES), *arguments]
        return Program(argv, self.folder, env={**self._env(home), **env}, cwd=work)

    async def says(self, model: str, *arguments: str, **env: str) -> str:
        """Everything it prints. It must end by itself, and with 0."""
        async with self.program(model, *arguments, **env) as program:
            assert await program.wait(LONGEST) == 0, program.log()
            return program.log()

    def _config(self, model: str) -> dict[str, object]:
        return {
            "model": {
                "default": model,
                "provider": "custom",
                "base_url": f"{self.router_url}/v1",
                "api_key": "any-key",
            },
            "security": {"allow_lazy_installs": False, "tirith_enabled": False},
        }

    def _env(self, home: Path) -> dict[str, str]:
        nowhere = f"http://127.0.0.1:{free_port()}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), nowhere)
        sealed = {**proxies, "no_proxy": "127.0.0.1"}
        return {
            **sealed,
            **{name.upper(): value for name, value in sealed.items()},
            "HERMES_HOME": str(home),
            "HERMES_DISABLE_LAZY_INSTALLS": "1",
            "HOME": str(self.folder),
            "COLUMNS": "80",
            "PATH": os.environ["PATH"],
        }


def reasoning(said: str) -> list[str]:
    """The lines of the box in which `hermes chat` shows what a model thinks."""
    _, _, rest = said.partition("┌─ Reasoning ")
    inside = rest.partition("└─")[0]
    return [line.strip() for line in inside.splitlines()[1:] if line.strip()]


def answer(said: str) -> str:
    """What stands in the box of the answer, on one line."""
    inside = said.partition("⚕ Hermes ")[2].partition("╰─")[0]
    return " ".join(inside.partition("\n")[2].split())
