"""A house to look at: six apps on the recorded day of a real Home Assistant, compressed in time.

Read ``apps`` first: they are what a user of :mod:`handspan.runtime` writes. The rest is the stage: ``day``
(what happened when), ``clock`` (the house's own time), ``replay`` (the events), ``jobs`` (a scheduler on that
time), ``counting`` (what the executor returned), ``view`` and ``summary`` (what is shown), ``app`` (all of it).
"""
