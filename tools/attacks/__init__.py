"""The attacks of `tools/campaign.py`: a module a kind, each with `begin(folder)`, which gives `attack(seed, tell)`."""
