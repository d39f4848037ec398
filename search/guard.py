"""Runs as `python guard.py PARENT COMMAND...`: becomes COMMAND, which the kernel kills when process PARENT ends.

The launcher starts every trainer through it, so that a killed worker leaves no orphan on the GPU. torchrun starts its
ranks through it too, because each rank leads a session of its own, out of reach of a signal to the launcher's group.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
OWN_PID = "{pid}"  # in COMMAND: replaced by this process's id, which COMMAND keeps


def main() -> None:
    """Bind this process's life to its parent's, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked to watch it
        raise SystemExit(f"guard: expected process {parent} as parent, got {os.getppid()}")
    # Ray blocks SIGINT in its workers, and a signal mask is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execv(command[0], [part.replace(OWN_PID, str(os.getpid())) for part in command])


if __name__ == "__main__":
    main()
