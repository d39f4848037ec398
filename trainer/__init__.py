"""The trainer: what becomes train_gpt.py. Imports torch, numpy, sentencepiece and nothing of ours outside itself."""
