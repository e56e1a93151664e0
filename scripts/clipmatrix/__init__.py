"""Parts of scripts/clip_matrix.py."""
