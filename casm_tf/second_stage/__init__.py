"""The second stage: masks that follow edges, learned from the first stage's masks, no labels."""
