"""What clients do. Each module is a program that runs in the client's pod and prints a Measured.

Each warms itself up first, over the same path, and counts nothing of that.
"""
