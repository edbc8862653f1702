"""API: the addresses under /v1, and /health and /ready. Handlers parse, ask the service, and answer; no more."""
