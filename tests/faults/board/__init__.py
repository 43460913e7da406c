"""The scoreboard of faults: an application, a referee and the accidents between them.

An outsider's program. The application (``worker``, ``load``) uses handspan's public API only and keeps its own
account of what it ran, in shared memory that survives ``kill -9`` (``account``). The referee (``referee``)
compares the file handspan left with that account. ``deaths``, ``disks`` and ``files`` hold the accidents,
``mutations`` the switches that make each of them red. ``python -m tests.faults.board`` prints the table.
"""
