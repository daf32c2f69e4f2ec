"""How the kernel reads a request, in Python, step for step: the oracle of its tests.

Executes records as bytes and nothing else. What they mean: docs/decisions/0008-request-matching.md.
"""
