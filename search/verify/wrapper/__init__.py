"""Self-extracting files, read without running them: their statements are followed as far as constants go."""
