"""Checks, traces, exports and uploads a selected data set."""
