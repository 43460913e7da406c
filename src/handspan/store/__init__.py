"""One SQLite file: how it is made, written (by one thread), pruned and read."""
