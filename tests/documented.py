"""What docs/http-api.md says of the endpoints: which there are, and which scopes they take.

Rule: the page is the source that tests compare the programs with, never the other way round.
"""

import re

from tests.harness import ROOT

SECTIONS = {"router": "## The router", "sidecar": "## The sidecar"}
ROW = re.compile(r"^\| `([A-Z]+) (/\S*)` \| (.*?) \|", re.MULTILINE)


def endpoints(program: str) -> dict[tuple[str, str], set[str]]:
    """The scopes of which one is enough, by method and path; `everyone` where no key is asked."""
    text = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    section = text.partition(f"{SECTIONS[program]}\n")[2].partition("\n## ")[0]
    return {
        (method, path): set(scopes.replace("`", "").split(" or "))
        for method, path, scopes in ROW.findall(section)
    }
