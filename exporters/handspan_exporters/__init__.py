"""Exporters for OpenTelemetry's stock pipeline, found by entry point: ``OTEL_TRACES_EXPORTER=handspan``."""
