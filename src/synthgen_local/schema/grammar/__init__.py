"""Grammars: the intermediate representation as Lark for llguidance, and texts that are no rows.

Knows the intermediate representation and llguidance; knows no JSON Schema.
"""
