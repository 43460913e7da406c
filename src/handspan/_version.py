__version__ = "0.1.0"
"""Also in pyproject.toml; a test compares."""
