"""Submission folders made from the runs of a study: what they claim, what they hold, what backs it."""
