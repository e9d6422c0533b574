"""How the tools reach the Hub: one client, one way to name a place, one look into the local cache."""
