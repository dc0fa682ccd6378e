"""The shipped networks: float torch modules as trained, their data and training, one file per network."""
