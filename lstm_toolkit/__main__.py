"""The entry point of the command `lstm-toolkit`, and of `python -m lstm_toolkit`.

It imports next to nothing before Control-C has its meaning.
"""

import os
import signal


def main() -> None:
    """Runs the command line in a process of its own, and ends as it ends."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _aborted)
    from lstm_toolkit.runtime.attended import attended

    attended(_command_line)


def _aborted(*_: object) -> None:
    try:  # noqa: SIM105 (contextlib takes longer to import than all of this)
        os.write(2, b"Aborted!\n")
    except OSError:
        pass
    os._exit(130)


def _command_line() -> None:
    from lstm_toolkit import cli

    cli.run()


if __name__ == "__main__":
    main()
