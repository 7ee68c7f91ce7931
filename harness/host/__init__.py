"""The host that we stand on: processes, folders, configuration files, the cache."""
