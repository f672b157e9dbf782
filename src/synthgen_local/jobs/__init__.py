"""Long runs: what was asked for, what is made already, and what an auditor needs.

Knows settings, files and the generators; the command line is above it.
"""
