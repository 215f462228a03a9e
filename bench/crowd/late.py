"""An engine whose load ends when it is told to: `python -m bench.crowd.late FILE COMMAND...`
becomes the command once the file is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

PAUSE = 0.05  # seconds between two looks

if __name__ == "__main__":
    sign, *command = sys.argv[1:]
    while not Path(sign).exists():
        time.sleep(PAUSE)
    os.execv(command[0], command)
