"""kmeshctl: shows what a running bridge does, and removes what one left behind.

One file for each subcommand (`add_to` and `run`), one for what it prints.
"""
