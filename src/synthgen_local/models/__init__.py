"""Which weights: the catalog, where files come from, and where they lie.

Knows files, not llama.cpp. The network is reached by `pull` and by nothing else.
"""
