"""From a finished span to a segment that waits for the writer: never raises, never waits, never forgets."""
