"""The kernel side: bpf(2), the loader of programs, maps, attachment, and what the kernel must have.

The only package that imports ctypes and bcc (bcc in the loader's own process only).
"""
