"""What training and evaluation will need, before anything is fetched or measured."""
