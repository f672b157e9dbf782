"""JSON Schema: documents, references, dialects, the disjunctive normal form, validation.

Knows the specification; knows no grammar and no pydantic.
"""
