"""Verifiers for what models write: math answers and code, in killable confined workers."""
