"""What is measured of the compounds of a ranking, each with its p-value."""
