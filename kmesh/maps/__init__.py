"""Map images and how one replaces another in the kernel: diff, order, apply. Knows nothing of xDS."""
