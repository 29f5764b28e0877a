//! Configurations for a machine with cgroup v2, systemd, several CPUs and memory nodes.
