"""pydantic models as JSON Schema, and rows as pydantic reads and writes them.

Knows pydantic; knows no grammar.
"""
