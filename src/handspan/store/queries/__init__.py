"""Questions and their answers: SQL in named statements, results as frozen dataclasses.

One layer for the CLI, the HTTP API, the dashboard and the tests. Every list has a limit, every query a
window and a deadline. Summaries come from rollups (``cover``, ``figures``), and rare rows are
found through them (``buckets``).
"""
