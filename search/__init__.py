"""The service: studies, the loop, the runner, submissions and the command line. No torch."""
