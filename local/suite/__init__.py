"""The suite's processes on one machine.

Read `units.py` (what each process is started with), `processes.py` and `supervisor.py` (started,
restarted, stopped in order). `stores.py`, `certificates.py`, `admin.py` and `claim.py` make what
they need, `probe.py` asks whether they are ready.
"""
