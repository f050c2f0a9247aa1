"""`penstock report`: a deployment's profiles and alerts over a range of time, as numbers and as one page."""
