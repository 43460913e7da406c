"""A house in a file, at any size: what a year of an application leaves, made in minutes.

``python -m benchmarks.house /tmp/ten.db --runs 10_000_000`` builds one; ``docs/benchmarks.md`` says what is in it. The
same seed and end give the same file, byte for byte of its rows.
"""
