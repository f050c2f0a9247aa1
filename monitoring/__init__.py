"""The monitor: pure folds over profiles, run by Faust agents, publishing alerts."""
