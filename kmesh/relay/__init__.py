"""The relay: carries in user space what the kernel programs hand over. See docs/decisions/0010-relay.md."""
