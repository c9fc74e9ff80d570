"""Ratios against peers and limits, measured on this machine: `make bench`."""
