"""When a process may be sent a signal: for the tests in this folder."""
import re
import signal
import time


def started(process, *numbers):
    """Waits until the process catches these signals (SIGINT and SIGTERM unless told) or has ended.  On a busy machine that can take
    longer than any delay; a signal that comes before has the effect that the system gives it."""
    wanted = sum(1 << number - 1 for number in numbers or (signal.SIGINT, signal.SIGTERM))
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as f:
            caught = re.search(r"^SigCgt:\s*(\w+)", f.read(), re.M)
        if int(caught[1], 16) & wanted == wanted:
            break
        time.sleep(0.001)
    return process
