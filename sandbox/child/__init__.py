"""What runs inside the sandbox; it imports nothing of ours but its neighbours."""
