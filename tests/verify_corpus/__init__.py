"""Small scripts that a review of submissions must refuse, each for one reason, and look-alikes that it must not."""
