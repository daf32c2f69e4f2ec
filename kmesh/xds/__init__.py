"""xDS: the wire protocol (sans-IO cores and their gRPC shell), resource decoding, and the embedded server."""
