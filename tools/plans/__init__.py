"""How a plan is made: what the data is, the method and adapter, each hyper-parameter with its reason, the page."""
