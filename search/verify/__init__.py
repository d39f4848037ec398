"""Checks of a submission folder against the challenge's rules, without running its code unless asked to."""
