"""A run, known by its folder alone: its beginning, record, state, metrics, what went wrong, picture and page."""
