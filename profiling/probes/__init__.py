"""The instruments, one file each: a probe runs a workload in passes of its own and reads it."""
