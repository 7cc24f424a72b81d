"""What an installation needs before its first start: schemas, roles, secrets, certificates.

`units.py` is the table of what each unit is given; read it first. `make run`, the tests, the
images and the manifests of `k8s/` all go by it.
"""
