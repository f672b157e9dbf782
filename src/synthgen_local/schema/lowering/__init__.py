"""Lowering: JSON Schema in disjunctive normal form to the intermediate representation.

Knows schemas and bounds; knows no grammar syntax.
"""
