"""Published blocks of networks: torch modules whose source is copied into network.py."""
