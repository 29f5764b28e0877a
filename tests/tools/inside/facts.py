# Prints what psutil and os say, one `name value` a line.
import os
import sys
import time

import psutil

busy = psutil.Process(int(sys.argv[1]))
disk = sys.argv[2]
busy.cpu_percent()
psutil.cpu_percent()
time.sleep(2)
print("busy", busy.cpu_percent())
print("busy-all", psutil.cpu_percent())
print("logical", psutil.cpu_count())
print("physical", psutil.cpu_count(False))
print("times", len(psutil.cpu_times(percpu=True)))
print("os.cpu_count", os.cpu_count())
print("memory", psutil.virtual_memory().total)
print("available", psutil.virtual_memory().available)
print("boot", psutil.boot_time())
print("created", time.time() - busy.create_time())
print("load", os.getloadavg()[0])
counters = psutil.disk_io_counters(perdisk=True)
print("written", counters[disk].write_bytes if disk in counters else 0)
