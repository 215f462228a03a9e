"""Is the program of this container well? Exit status 0 if any of the URLs answers 2xx, else 1.

    health.py URL ...

One image runs either program, so the image's own check asks for both.
"""

from __future__ import annotations

import http.client
import sys
import urllib.request

PATIENCE = 3.0  # seconds
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    return 0 if any(answers(url) for url in sys.argv[1:]) else 1


def answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=PATIENCE):
            return True
    except (OSError, http.client.HTTPException):  # urllib's own errors are OSErrors
        return False


if __name__ == "__main__":
    sys.exit(main())
