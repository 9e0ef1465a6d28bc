"""What is told of outcomes to people: what is proved of each journey and of all together, and what is only described."""
