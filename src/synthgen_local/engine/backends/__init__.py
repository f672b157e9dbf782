"""Language models for the decoder: llama.cpp, and random logits.

Knows tokens and logits; knows no constraints.
"""
