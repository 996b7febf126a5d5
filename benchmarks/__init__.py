"""Measurements that replay the paper's tables on this machine: scripts, and records as JSON."""
