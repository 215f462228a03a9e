"""Holds a process so that nobody can end it, as a device does that never answers: tracer.py PID

The kernel stops a traced process that is killed at the last moment before its end, and there it
stays, whatever it is sent, until its tracer lets it go. So this one does when it ends itself.

Rule: what it holds has one thread.
"""

import ctypes
import os
import signal
import sys

SEIZE, TRACE_EXIT = 0x4206, 0x40  # <linux/ptrace.h>

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

if libc.ptrace(SEIZE, int(sys.argv[1]), None, TRACE_EXIT):
    sys.exit(f"cannot hold {sys.argv[1]}: {os.strerror(ctypes.get_errno())}")
os.write(1, b"held\n")
while True:
    signal.pause()
