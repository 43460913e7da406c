"""Budgets of DESIGN section 10, measured: ``make bench``.

Each measurement compares handspan with something nobody here wrote, inside one run, in interleaved rounds:
what else the machine does falls on both sides alike. Only ratios and differences have budgets; absolute
figures stand beside them. Each measurement has an interpreter of its own. ``docs/benchmarks.md`` explains
every row.
"""
