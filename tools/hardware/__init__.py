"""What a training needs and where it fits: the model's size, memory, speed, the machines on offer. Trains nothing."""
