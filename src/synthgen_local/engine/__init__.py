"""Batched, grammar-constrained decoding: token ids and logits.

Knows nothing of pydantic, prompts or files.
"""
