"""Regular expressions: parsed, translated to llguidance's dialect, and made for ranges and formats.

Knows patterns; knows no schemas.
"""
