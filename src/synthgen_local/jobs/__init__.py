"""Jobs: specs, the runner with its ledger, manifests and their verification.

Knows files and the generators; knows no command line.
"""
