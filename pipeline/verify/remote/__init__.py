"""Objects of one process in another: messages, encoded values, mirrors, and what the judge allows."""
