"""The operating system: processes, cores, memory, permissions, the network and atomic writes.

Knows nothing of this package but its errors.
"""
