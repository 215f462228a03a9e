"""Faults over running load: `python -m tests.faults.storm` kills, freezes, parts and leaves as its
seed says, and judges what clients were told and what became of processes.

Nothing in here knows how the programs work: it sees what any client, operator or /proc sees.
"""
