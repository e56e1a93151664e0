"""The modules of scripts/clip_matrix.py."""
