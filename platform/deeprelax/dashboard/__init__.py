"""The web page of sweeps and runs: what the replicas do, what the search has found.

It reads the study's database and the runs' folders; nothing has to be running for it. See ``deeprelax dashboard``.
"""
