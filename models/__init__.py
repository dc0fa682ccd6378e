"""The shipped networks: float torch modules as trained, one file per network; their facts and their data without torch."""
