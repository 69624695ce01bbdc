"""The notes' parts of the page: interactive charts, sections, the list of update rules."""
