"""Which OpenTelemetry provider the spans go through, and how: somebody's, or one of ours."""
