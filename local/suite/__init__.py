"""The suite's processes on one machine.

Read `units.py` (what each process is started with), `processes.py` and `supervisor.py` (started,
restarted, stopped in order). `stores.py`, `certificates.py` and `admin.py` make what they need.
"""
