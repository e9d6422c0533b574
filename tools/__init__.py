"""What the model's code can call: plain functions, one file per area, JSON in and out. They never import the agent."""
