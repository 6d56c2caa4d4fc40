"""Figures on a cluster: ``make bench-cluster``."""
