"""Regression of targets on expression where genes outnumber wells: ridge, kernel ridge, PLS, logistic, stacked."""
