"""handspan for what people already run. Each takes protocols, never ``Telemetry``."""
