"""The records of a campaign, its store and its repository of networks."""
