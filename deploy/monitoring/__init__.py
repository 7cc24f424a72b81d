"""The control room as code: rules, objectives, routes of alerts and dashboards.

`python -m deploy.monitoring` writes the files of `deploy/k8s/components` that are made of it.
Read `durations.py` and `rules.py`, then the rules by their subject: `requests.py`, `awards.py`,
`stores.py`, `cluster.py` and `objectives.py`.
"""
