"""What an operator asks, put to files of any size: how long each answer takes, and whether it is right.

``python -m benchmarks.questions /tmp/ten.db`` asks everything of one file; ``--sizes 100k 1m 10m`` builds them first
(:mod:`benchmarks.house`). An answer that plain SQL over the raw rows contradicts is an error instead of a figure.
"""
