"""The planner, the campaign loop, exploration, statistics, reports and the command line."""
