"""Constraints on the tokens of a sequence: grammars, mentions, extraction, null rates, lengths.

Knows tokens, text and bitmasks; knows no schemas.
"""
