# Runs a program in a terminal of ROWS x COLUMNS for so many SECONDS and prints its last screen.
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import pyte

rows, columns, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
pid, terminal = pty.fork()
if pid == 0:
    time.sleep(0.1)
    os.environ.update(TERM="linux", LC_ALL="C.UTF-8", HOME="/root")
    os.execvp(sys.argv[4], sys.argv[4:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
screen = pyte.Screen(columns, rows)
stream = pyte.ByteStream(screen)
end = time.monotonic() + seconds
while (left := end - time.monotonic()) > 0:
    if select.select([terminal], [], [], left)[0]:
        try:
            stream.feed(os.read(terminal, 65536))
        except OSError:
            break
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
print("\n".join(line.rstrip() for line in screen.display))
