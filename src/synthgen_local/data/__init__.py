"""Rows and records in files and in memory: readers, writers, Arrow, data frames, cards.

Knows schemas and files; knows no prompts, engine or jobs.
"""
