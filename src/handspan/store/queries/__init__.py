"""Questions and their answers: SQL in named statements, results as frozen dataclasses.

One layer for the CLI, the HTTP API, the dashboard and the tests. Every list has a limit, every query a
window and a deadline. What aggregates raw rows instead of indexes says so:
``with_counts`` passes over the whole tables, ``registration_totals`` over one registration's window.
"""
