"""Traffic through the mesh beside traffic without one and through sidecars, in one run.

`topology` makes the pods and their servers, `scenarios/` the ways between them (one file each), `loads/` the clients,
`workload` what they are told to do, `run` takes turns, `claims` judges, `table` prints. Nothing is imported here: the
clients are processes of their own, and start with every sample.
"""
