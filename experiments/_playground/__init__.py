"""The parts of the page that are of the notes: charts to play with, their sections, the list of update rules."""
