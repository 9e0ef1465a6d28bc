"""Whether what is said of journeys is right: claims, tried on worlds of which the truth is known."""
