"""Text only: pages, manuscript, settings, network skeletons and the bibliography."""
