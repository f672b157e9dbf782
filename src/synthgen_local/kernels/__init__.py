"""Compiled kernels for llama.cpp's CPU backend: their C sources and how they are built.

Knows ggml's structs and the compiler; knows no Python model or decoder.
"""
