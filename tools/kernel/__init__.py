"""The kernel tools' workshop: where a kernel's project lies, and its states run in the jail."""
