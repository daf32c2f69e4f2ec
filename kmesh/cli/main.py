"""The console script kmeshctl: parses the command line, runs one subcommand, gives its outcome as exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kmesh.cli import dump, explain, status, uninstall, version
from kmesh.errors import KmeshError

__all__ = ["main"]

_TEXT = """\
Shows what a kmesh bridge on this machine does, and removes what one left in the kernel.

examples:
  kmeshctl status                         is all well, and if not, what is wrong?
  kmeshctl status --json | jq .problems   the same for scripts
  kmeshctl dump model --name reviews      what the control plane says of reviews
  kmeshctl dump maps --name reviews       what the kernel does with it
  kmeshctl explain --request http://10.96.0.1/    where does this request go, and why?
  kmeshctl dump --help                    each command explains itself
"""

_EXIT_STATUSES = """\
exit status:
  0   done; for status: all is well
  1   status: the bridge answers, and something is wrong
  2   not done: a wrong option, no bridge at the socket, or a request that failed
  3   explain: no route takes the request
"""

_DONE = 0
_NOT_DONE = 2
_INTERRUPTED = 130
_READER_GONE = 141  # 128 + SIGPIPE, as the shell reports a program that the signal ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status that --help documents."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KmeshError as error:
        print(f"kmeshctl: {error}", file=sys.stderr)
        return _NOT_DONE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits; that must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kmeshctl",
        description=_TEXT,
        epilog=_EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for command in (status, dump, explain, version, uninstall):
        command.add_to(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
