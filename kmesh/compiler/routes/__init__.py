"""Route configurations as tables that are read once per request: docs/decisions/0008-request-matching.md."""
