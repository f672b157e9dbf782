"""Generators: tabular rows, texts, extracted records, chat answers and verified texts.

Knows prompts, schemas and the engine; knows no files, jobs or command line.
"""
