"""Recipe, records, stages: the contract that services and training build on."""
