"""Prompts: few-shot templates, chat templates, examples, and what a prompt says about a schema.

Knows schemas and the text of a prompt; knows no decoding and no jobs.
"""
