"""A test harness for kernels: build or unpack, boot under QEMU, run, compare, gate."""
