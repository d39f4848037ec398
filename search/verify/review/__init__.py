"""The static review: a script is followed, statement by statement, on values of which only their origin is known."""
