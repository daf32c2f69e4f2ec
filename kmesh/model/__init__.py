"""Validated, immutable xDS resources: what the control plane said, in the field's own names.

No I/O, no protobuf, no maps. Decoding (kmesh.xds.resources) validates once; every later layer trusts.
"""
