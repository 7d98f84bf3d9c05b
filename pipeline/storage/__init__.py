"""The run directory: files that are complete or absent, on a file system or on S3."""
