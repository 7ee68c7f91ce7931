"""QEMU: from a machine's description to a running guest, its console and its monitor."""
