"""One file per xDS resource type: protobuf in, model out, everything validated once."""
