"""SERVE: a ready Recommender -> an HTTP service and a page (`panfit serve`). Needs panfit[serve]."""
