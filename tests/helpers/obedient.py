"""Stands in for the worker of a sweep; a module of its own, so that its processes start fast."""

import os
import signal
import time

from lstm_toolkit.sweeping.values import SweepRow


def obey(config):
    """Stands in for `measure`: does what the configuration tells, and keeps a log of it."""
    options = config.options
    with open(options["log"], "a") as log:
        log.write(f"{options['number']} {os.getpid()}\n")
    if options["does"] == "end":
        os.kill(os.getpid(), signal.SIGKILL)
    if options["does"] == "hang":
        time.sleep(600)
    error = "ValueError: told so" if options["does"] == "fail" else None
    return SweepRow(config, size=options["number"], machine="here", error=error)
