"""Loading a model: weight formats, load plan, probe in a subprocess, prefix cache on disk.

Knows models and the engine; knows no schemas, prompts or rows.
"""
