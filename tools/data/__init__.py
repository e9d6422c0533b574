"""The rooms behind inspect_dataset and prepare_dataset: finding, reading, recognising, counting, mending data."""
