"""What everything else needs: types, errors, trees, checks, matrix factorizations."""
