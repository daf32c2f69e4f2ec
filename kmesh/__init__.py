"""kmesh: a sidecarless service mesh data plane, xDS in and eBPF out."""

__version__ = "0.1.0"
