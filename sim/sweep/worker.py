"""A worker process: takes points from a connection, runs them one after another, ends when its parent is gone.

Run as `python -m sim.sweep.worker CONNECTION LIFE`, two inherited file descriptors. Nothing is forked and the parent's
main module is not imported again, so that a sweep may be started from a script, a notebook or a server with threads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from sim.sweep.point import Job, Work, guarded

READY = "ready"
IDLE_S = 300.0  # without a point, after which a worker that was forgotten ends


def main() -> None:
    """Serve points until there are no more."""
    connection, life = Connection(int(sys.argv[1])), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
    work: Work = connection.recv()
    import sim.run
    import sim.sweep.columns
    import sim.sweep.request_cache  # noqa: F401  the imports of a point, before the clock of the first one runs

    connection.send(READY)
    while connection.poll(IDLE_S):
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        connection.send(guarded(work, job))


def _end_with_parent(life: int) -> None:
    """Nothing is ever written to `life`: reading ends when the parent does, whatever it died of."""
    os.read(life, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
