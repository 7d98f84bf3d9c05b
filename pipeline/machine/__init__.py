"""This machine: its cores, memory, arithmetic and accelerators."""
